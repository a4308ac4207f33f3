"""Models of a user's own, in the training that the user has already."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import metrics
from clsd_tf.ema import EMATeacher
from clsd_tf.model import ClickConfidenceModel

ROWS, GROUPS = 600, 3


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three numbers, a click that depends on them, and a user group."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    clicks = (rng.random(ROWS) < 1 / (1 + np.exp(-2.0 * x[:, 0]))).astype(np.float32)
    return x, clicks, rng.integers(0, GROUPS, ROWS)


def dataset(batch_size: int = 100) -> tf.data.Dataset:
    x, clicks, groups = table()
    whole = ({"x": x, "segment": groups}, clicks)
    return tf.data.Dataset.from_tensor_slices(whole).batch(batch_size)


def functional() -> keras.Model:
    x = keras.Input((3,), name="x")
    segment = keras.Input((), dtype=tf.int64, name="segment")
    bias = keras.layers.Embedding(GROUPS, 1, embeddings_initializer="zeros")(segment)
    hidden = keras.layers.Dense(4, activation="relu")(x)
    return keras.Model([x, segment], keras.layers.Dense(1)(hidden) + bias)


def sequential() -> keras.Sequential:
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


class Subclassed(keras.Model):
    """With dropout, and an output of [batch]."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation="relu")
        self.dropout = keras.layers.Dropout(0.1)
        self.last = keras.layers.Dense(1)

    def call(self, features, training=False):
        hidden = self.dropout(self.hidden(features["x"]), training=training)
        return self.last(hidden)[:, 0]


class Correct(keras.metrics.Metric):
    """A metric of a user's own: the share of right guesses."""

    def __init__(self):
        super().__init__(name="correct")
        self.right = self.add_weight("right", initializer="zeros")
        self.rows = self.add_weight("rows", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = tf.equal(y_true > 0.5, y_pred > 0.5)
        self.right.assign_add(tf.reduce_sum(tf.cast(right, tf.float32)))
        self.rows.assign_add(tf.cast(tf.size(right), tf.float32))

    def result(self):
        return self.right / self.rows


def confident(build, teacher=None, **options) -> ClickConfidenceModel:
    teacher = teacher or build()
    return ClickConfidenceModel(
        build(), teacher, "global", num_groups=GROUPS, group_key="segment", **options
    )


@pytest.mark.parametrize("build", [functional, Subclassed])
def test_models_of_named_features_learn_in_an_existing_fit(build):
    model = confident(build)
    model.compile(keras.optimizers.Adam(0.03), metrics=[Correct(), keras.metrics.AUC(name="area")])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=9)
    logged = model.fit(
        dataset().repeat(),
        epochs=3,
        steps_per_epoch=20,
        validation_data=dataset(),
        callbacks=[stop],
        verbose=0,
    ).history
    assert logged["val_correct"][-1] > 0.7
    assert logged["val_area"][-1] > 0.8
    scores = model.predict(dataset(), verbose=0)
    assert metrics.auc(table()[1], scores) == pytest.approx(logged["val_auc"][-1], abs=5e-3)


def test_a_sequential_model_gets_the_only_feature_or_the_only_tensor():
    x, clicks, groups = table()
    model = ClickConfidenceModel(sequential(), num_groups=GROUPS)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit({"x": x, "_group": groups}, clicks, batch_size=100, verbose=0)
    bare = ClickConfidenceModel(model.backbone, sequential(), "global")
    bare.compile(keras.optimizers.SGD(0.1))
    bare.fit(x, clicks, batch_size=100, epochs=20, verbose=0)
    assert metrics.auc(clicks, bare.predict(x, verbose=0)) > 0.8
    np.testing.assert_allclose(bare(x[:5]), bare({"x": x[:5]}), rtol=1e-6)


def test_a_sequential_model_without_an_input_takes_one_tensor_too():
    x, clicks, _ = table()
    backbone = keras.Sequential([keras.layers.Dense(1)])
    teacher = EMATeacher(keras.Sequential([keras.layers.Dense(1)]))
    model = ClickConfidenceModel(backbone, teacher, "global")
    model.compile("sgd")
    model.fit(x, clicks, verbose=0)
    assert model.predict(x, verbose=0).shape == (ROWS,)


class TestWeights:
    """One logit for all: at the optimum it is that of the weighted click rate."""

    def optimum(self, **fit) -> float:
        backbone = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model = ClickConfidenceModel(backbone)
        model.compile(keras.optimizers.SGD(1.0))
        clicks = np.tile([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 300)
        model.fit(np.zeros((1800, 1)), clicks, batch_size=6, shuffle=False, verbose=0, **fit)
        return float(model.predict(np.zeros((1, 1)), verbose=0)[0])

    def test_sample_weights(self):
        weights = np.tile([3.0, 1.0, 1.0, 1.0, 0.0, 0.0], 300)
        assert self.optimum(sample_weight=weights) == pytest.approx(4 / 6, abs=1e-3)

    def test_class_weights(self):
        assert self.optimum(class_weight={0: 0.5, 1: 2.0}) == pytest.approx(4 / 6, abs=1e-3)


def test_a_model_of_ones_own_learns_on_two_replicas(two_replicas):
    with two_replicas.scope():
        model = confident(functional)
        model.compile(keras.optimizers.Adam(0.1), metrics=[keras.metrics.BinaryAccuracy()])
    logged = model.fit(dataset(), epochs=3, verbose=0).history
    assert logged["binary_accuracy"][-1] > 0.7


class Squashing(Subclassed):
    def call(self, features, training=False):
        return tf.reshape(tf.sigmoid(super().call(features)), [-1, 1])


class TwoTasks(Subclassed):
    def call(self, features, training=False):
        return {"click": super().call(features)}


class TwoLogits(Subclassed):
    def call(self, features, training=False):
        return tf.concat([super().call(features)[:, None]] * 2, axis=1)


class TestMistakes:
    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (Squashing, r"`squashing` must give logits. Received: the output of a Sigmoid"),
            (TwoTasks, r"`two_tasks` must give one tensor of logits. Received: dict"),
            (TwoLogits, r"`two_logits` must give one logit.*\(None, 2\).*\[batch, 1\]"),
        ],
    )
    def test_an_output_that_is_no_logit(self, build, message):
        model = ClickConfidenceModel(build())
        model.compile("sgd")
        with pytest.raises(ValueError, match=message):
            model.fit(dataset(), verbose=0)

    def test_a_group_out_of_range(self):
        x, clicks, groups = table()
        model = ClickConfidenceModel(sequential(), num_groups=2)
        model.compile("sgd")
        message = r"user group is out of range. Expected: `_group` in \[0, 2\)(.|\n)*\[0\] \[2\]"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            model.fit({"x": x, "_group": groups}, clicks, verbose=0)

    def test_objects_of_keras_3(self):
        # In a process of its own: both Keras in one is what goes wrong.
        code = """
import clsd_tf, tf_keras, keras
backbone = tf_keras.Sequential([tf_keras.Input((1,)), tf_keras.layers.Dense(1)])
model = clsd_tf.ClickConfidenceModel(backbone)
attempts = [
    lambda: clsd_tf.ClickConfidenceModel(keras.Sequential([keras.layers.Dense(1)])),
    lambda: model.compile(keras.optimizers.Adam()),
    lambda: model.compile(metrics=[keras.metrics.AUC()]),
    lambda: (model.compile(), model.fit([[1.0]], [1.0], callbacks=[keras.callbacks.History()])),
]
for attempt in attempts:
    try:
        attempt()
    except ValueError as error:
        print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        first, *others = done.stdout.splitlines()
        assert "`backbone` must be a `tf_keras` layer or model" in first
        for name, line in zip(("optimizer", "metrics", "callbacks"), others, strict=True):
            assert line.startswith(f"`{name}` must be of Keras 2") and "Keras 3" in line
