"""Whole steps that read rows once, beside those that run eagerly and read as anything else does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.embeddings import FusedEmbedding, keras_inputs
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import RowwiseAdagrad, SparseAdagrad
from tests.clsd_tf.table_columns import FEATURES, batch


@pytest.mark.parametrize("backbone", ["mlp", "deepfm", "din"])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: None,
        lambda: SparseAdagrad(0.1),
        lambda: SparseAdagrad(0.1, weight_decay=0.1),
        lambda: SparseAdagrad(0.1, use_ema=True, ema_momentum=0.5),
        lambda: keras.optimizers.Adam(0.01),
    ],
)
def test_learns_what_an_eager_one_learns(clicks, backbone, optimizer):
    weights = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        model = ClickConfidenceModel(get_backbone(backbone, clicks.inputs))
        model.compile(optimizer(), run_eagerly=eagerly)
        model.fit(clicks.dataset(500), epochs=2, verbose=0)
        weights.append(model.backbone.get_weights())
    for graph, eager in zip(*weights, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-3, atol=1e-5)


def test_several_in_a_loop_are_the_same(clicks):
    weights = []
    for steps in (1, 4):
        keras.utils.set_random_seed(0)
        model = ClickConfidenceModel(get_backbone("mlp", clicks.inputs))
        model.compile(SparseAdagrad(0.1), steps_per_execution=steps)
        model.fit(clicks.dataset(500), verbose=0)
        weights.append(model.backbone.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [SparseAdagrad, RowwiseAdagrad])
def test_a_functional_model_reads_and_searches_its_table_once(clicks, optimizer):
    inputs = keras_inputs(clicks.inputs)
    flat = FusedEmbedding(clicks.inputs)(inputs).pooled(inputs).flat()
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(flat))
    model.compile(optimizer(), "binary_crossentropy")
    (table,) = (w for w in model.trainable_weights if "table" in w.name)

    @tf.function
    def step(features, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(features, training=True)[:, 0] - labels) ** 2)
        model.optimizer.minimize(loss, model.trainable_weights, tape)

    model.optimizer.build(model.trainable_weights)
    features = {n: tf.constant(clicks.features[n][:8]) for n in inputs}
    graph = step.get_concrete_function(features, tf.constant(clicks.labels[:8])).graph
    readers = [op.type for op in graph.capture(table.handle).consumers()]
    assert readers.count("ResourceGatherNd") == 1
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("Unique") == 2  # users, and items with those of the history


@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("how", ["once", "twice", "on condition", "in a loop", "in a function"])
def test_a_table_that_was_written_to_is_read_again(how, decay):
    """Also in an inner graph: what it writes, the outer one, which has read, does not see."""
    results, inputs = [], batch(4)
    for graph in (True, False):
        keras.utils.set_random_seed(0)
        layer, optimizer = FusedEmbedding(FEATURES), SparseAdagrad(0.1, weight_decay=decay)
        layer(inputs)
        optimizer.build(layer.trainable_weights)

        def step(layer=layer, optimizer=optimizer):
            with tf.GradientTape() as tape:
                embedded = layer(inputs, training=True)
                total = tf.add_n([tf.reduce_sum(v**2) for v in embedded.values()])
            gradients = tape.gradient(total, layer.trainable_weights)

            def apply():
                pairs = zip(gradients, layer.trainable_weights, strict=True)
                optimizer.apply_gradients(pairs)
                return tf.constant(0)

            if how in ("once", "twice"):
                for _ in range(1 + (how == "twice")):
                    apply()
            elif how == "on condition":
                tf.cond(tf.reduce_sum(inputs["user"]) >= 0, apply, lambda: tf.constant(0))
            elif how == "in a loop":
                tf.while_loop(lambda i: i < 3, lambda i: [i + 1 + apply()], [tf.constant(0)])
            else:
                tf.function(apply)()

        (tf.function(step) if graph else step)()
        results.append(layer.get_weights())
    for graph, eager in zip(*results, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-5)


def test_an_optimizer_clips_what_a_row_gets():
    """User 3 is there three times: a gradient of 3, of which clipping leaves 1.5."""
    layer, optimizer = FusedEmbedding(FEATURES[:1]), keras.optimizers.SGD(1.0, clipvalue=1.5)
    inputs = {"user": tf.constant([3, 1, 3, 3], tf.int64)}
    layer(inputs)
    (before,) = layer.get_weights()
    optimizer.build(layer.trainable_weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(inputs, training=True)["user"])
        optimizer.minimize(total, layer.trainable_weights, tape)

    step()
    (after,) = layer.get_weights()
    expected = np.array([0, 1, 0, 1.5, 0])[:, np.newaxis] * np.ones((5, 2))
    np.testing.assert_allclose(before - after, expected, rtol=1e-5)
