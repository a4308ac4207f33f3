"""The likeliest mistakes in Python: each is a sentence with what was received and what to do."""

from __future__ import annotations

import re

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf import losses, metrics
from clsd_tf.features import ModelFeature
from data_pipeline.manifest import ShardError
from data_pipeline.reader import make_dataset

FEATURES = [
    ModelFeature("user", "categorical", cardinality=9, dim=4, table="user", role="user"),
    ModelFeature("item", "categorical", cardinality=9, dim=4, table="item", role="item"),
]
ROWS = {"x": np.zeros((4, 2), np.float32), "_group": np.array([0, 1, 2, 5])}
CLICKS = np.array([1, 0, 1, 0], np.float32)


def backbone(units: int = 1, activation: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, activation)])


def model(**options: object) -> clsd_tf.ClickConfidenceModel:
    return clsd_tf.ClickConfidenceModel(backbone(), **options)


def data(rows: dict = ROWS, clicks: np.ndarray = CLICKS) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((rows, clicks)).batch(2)


def fitted(model: clsd_tf.ClickConfidenceModel, batches: object, **options: object) -> None:
    model.compile(keras.optimizers.SGD(), run_eagerly=True)
    model.fit(batches, verbose=0, **options)


def compiled(**options: object) -> None:
    model().compile(**options)


# The mistake, what is named as received, and a word of what to do.
MISTAKES = {
    "a backbone of Keras 3": (
        lambda: clsd_tf.ClickConfidenceModel(keras_3.Sequential()),
        "Sequential",
        "import tf_keras as keras",
    ),
    "a backbone that is its name": (
        lambda: clsd_tf.ClickConfidenceModel("dcn_v2"),
        "str",
        "must be a `tf_keras` layer",
    ),
    "a sigmoid at the end": (
        lambda: clsd_tf.ClickConfidenceModel(backbone(activation="sigmoid")),
        "'sigmoid'",
        "Leave the activation out",
    ),
    "two units at the end": (
        lambda: clsd_tf.ClickConfidenceModel(backbone(units=2)),
        "units=2",
        "Expected: units=1",
    ),
    "a student that teaches itself": (
        lambda: clsd_tf.ClickConfidenceModel(*[backbone()] * 2, "global"),
        "the same object",
        "Build the student's backbone anew",
    ),
    "confidence without a teacher": (
        lambda: model(confidence="global"),
        "teacher=None",
        "need a teacher",
    ),
    "a teacher without use": (lambda: model(teacher=backbone()), "confidence=None", "leave the te"),
    "a confidence that is not": (
        lambda: model(teacher=backbone(), confidence="afine"),
        "'afine'",
        "affine",
    ),
    "a student that is not": (
        lambda: model(teacher=backbone(), confidence="global", student="hard"),
        "'hard'",
        "soft",
    ),
    "an alpha in percent": (
        lambda: model(teacher=backbone(), confidence="affine", alpha=50.0),
        "alpha=50.0",
        "must be in [0, 1]",
    ),
    "distillation above one": (
        lambda: model(teacher=backbone(), distillation=2.0),
        "distillation=2.0",
        "must be in [0, 1]",
    ),
    "a temperature of zero": (
        lambda: model(teacher=backbone(), distillation=0.5, temperature=0.0),
        "temperature=0.0",
        "must be > 0",
    ),
    "no groups at all": (lambda: model(num_groups=0), "num_groups=0", "must be at least 1"),
    "groups of another number": (
        lambda: model(
            teacher=backbone(), confidence=clsd_tf.get_confidence("affine", 3), num_groups=4
        ),
        "num_groups=4 and 3",
        "must agree",
    ),
    "a loss in compile": (
        lambda: compiled(loss="binary_crossentropy"),
        "'binary_crossentropy'",
        "Leave it out",
    ),
    "an optimizer of Keras 3": (
        lambda: compiled(optimizer=keras_3.optimizers.Adam()),
        "Adam",
        "import tf_keras as keras",
    ),
    "a metric of Keras 3": (
        lambda: compiled(metrics=[keras_3.metrics.AUC()]),
        "AUC",
        "import tf_keras as keras",
    ),
    "a callback of Keras 3": (
        lambda: fitted(model(), data(), callbacks=[keras_3.callbacks.EarlyStopping()]),
        "EarlyStopping",
        "import tf_keras as keras",
    ),
    "batches without clicks": (
        lambda: fitted(model(), data().map(lambda features, click: features)),
        "dict",
        "(features, label)",
    ),
    "no group among the features": (
        lambda: fitted(model(num_groups=4), data({"x": ROWS["x"]})),
        "x",
        "Expected: '_group'",
    ),
    "confidence that was not fitted": (
        lambda: fitted(model(teacher=backbone(), confidence="affine"), data()),
        "no fit",
        "fit_held_out",
    ),
    "a fit without a function": (
        lambda: model().fit_confidence(data()),
        "confidence=None",
        "built",
    ),
    "a table without a function": (lambda: model().confidence_table(), "None", "built with one"),
    "progressive clicks too early": (
        lambda: model().progressive_clicks,
        "has not trained",
        "Fit the confidence on held-out",
    ),
    "a data set without an end": (
        lambda: model(teacher=backbone(), confidence="affine").fit_confidence(data().repeat()),
        "infinite",
        "leave `repeat()` out",
    ),
    "a data set without rows": (
        lambda: model(teacher=backbone(), confidence="affine").fit_confidence(data().take(0)),
        "no batch",
        "one at least",
    ),
    "a fit on clicks alone": (
        lambda: model(teacher=backbone(), confidence="affine").fit_confidence(
            data(clicks=np.ones(4, np.float32))
        ),
        "4 clicks in 4 rows",
        "needs clicks and non-clicks",
    ),
    "a decay of one": (lambda: clsd_tf.EMATeacher(backbone(), decay=1.0), "decay=1.0", "(0, 1)"),
    "a teacher of another shape": (
        lambda: fitted(
            model(teacher=clsd_tf.EMATeacher(backbone_of(3)), confidence="global"), data()
        ),
        "shapes",
        "Build both by the same function",
    ),
    "scores that are not there": (
        lambda: fitted(model(teacher=clsd_tf.StoredScores(), confidence="global"), data()),
        "x",
        "_teacher_logit",
    ),
    "a backbone that is not": (
        lambda: clsd_tf.get_backbone("dnc_v2", FEATURES),
        "'dnc_v2'",
        "dcn_v2",
    ),
    "a backbone of another package": (
        lambda: clsd_tf.get_backbone("no_package.models:Tower", FEATURES),
        "no_package.models:Tower",
        "importable",
    ),
    "a backbone without its history": (
        lambda: clsd_tf.get_backbone("din", FEATURES),
        "user, item",
        "Add [history] to the spec",
    ),
    "a feature that is left out": (
        lambda: clsd_tf.get_backbone("mlp", FEATURES, units=[4])({"user": tf.constant([1])}),
        "user",
        "item",
    ),
    "an objective that is not": (lambda: clsd_tf.get_objective("tce", FEATURES), "'tce'", "t_ce"),
    "a sharpness below zero": (
        lambda: clsd_tf.get_confidence("global", 1, sharpness=-1.0),
        "sharpness=-1.0",
        "must be > 0",
    ),
    "an encoder of nothing": (lambda: clsd_tf.Encoder.load("nowhere"), "nowhere", "clsd-prepare"),
    "a spec that is not there": (lambda: clsd_tf.read_spec("my.toml"), "my.toml", "a TOML file"),
    "a data set that is not there": (
        lambda: make_dataset("nowhere", "train", 4),
        "nowhere",
        "prepare the log first",
    ),
    "labels that are soft": (lambda: metrics.auc([0.5, 1], [0.1, 0.2]), "0.5", "Threshold"),
    "scores that are NaN": (lambda: metrics.auc([0, 1], [0.1, np.nan]), "nan", "Drop these rows"),
    "a GAUC of another kind": (
        lambda: metrics.gauc([0, 1], [0.1, 0.2], [1, 1], weighting="users"),
        "weighting='users'",
        "impressions",
    ),
    "an axis too many": (
        lambda: losses.click_loss(tf.zeros([2, 1]), tf.zeros([2])),
        "(2, 1)",
        "Squeeze",
    ),
    "a window of nothing": (
        lambda: clsd_tf.EarlyStoppingOnMean("val_loss", window=0),
        "window=0",
        "at least 1",
    ),
    "a best that is neither": (
        lambda: clsd_tf.BestExport(str, monitor="val_auc", mode="highest"),
        "'highest'",
        "'max' or 'min'",
    ),
    "a checkpoint of no batches": (
        lambda: clsd_tf.StepCheckpoint("run", every=0),
        "every=0",
        "at least 1",
    ),
    "a monitor of a plain model": (
        lambda: fitted(model(), data(), callbacks=[clsd_tf.ConfidenceMonitor(data(), "logs")]),
        "without a confidence function",
        "Leave the callback out",
    ),
}


def backbone_of(inputs: int) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1)])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, received, remedy = MISTAKES[mistake]
    with pytest.raises((ValueError, OSError, RuntimeError, ShardError)) as caught:
        make()
    told = " ".join(str(caught.value).split())
    assert re.search(r"Received( signatures)?: ", told), told
    assert received in told.partition("Received")[2], told
    assert remedy in told, told


def test_there_are_enough():
    assert len(MISTAKES) >= 30
