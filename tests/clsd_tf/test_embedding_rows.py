"""An embedding reads each row once in training, with the same vectors and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.embeddings import FusedEmbedding
from clsd_tf.features import ModelFeature
from clsd_tf.table_rows import (
    are_distinct,
    finds_distinct_rows,
)
from tests.clsd_tf.table_columns import FEATURES, batch, kinds_of


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("rows", "length"), [(6, 3), (1, 3), (0, 3), (6, 1)])
def test_training_gives_the_same_vectors_and_gradients(policy, rows, length):
    layer, inputs = FusedEmbedding(FEATURES, dtype=policy), batch(rows, length)
    layer(inputs)
    rng = np.random.default_rng(1)
    factors = {n: tf.constant(rng.normal(size=v.shape)) for n, v in layer(inputs).items()}

    def gradients_of(training):
        with tf.GradientTape() as tape:
            embedded = layer(inputs, training=training)
            products = [factors[n] * tf.cast(v, tf.float64) for n, v in embedded.items()]
            total = tf.add_n([tf.reduce_sum(product) for product in products])
        gradients = tape.gradient(total, layer.embedding_variables)
        if training and tf.inside_function():
            assert all(are_distinct(gradient.indices) for gradient in gradients)
        return dict(embedded), embedded.runs, [tf.convert_to_tensor(g) for g in gradients]

    results = [tf.function(gradients_of)(training) for training in (False, True)]
    tf.nest.map_structure(np.testing.assert_array_equal, results[0][:2], results[1][:2])
    for plain, once in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_allclose(plain, once, rtol=1e-6, atol=1e-6)
    eager = gradients_of(True)
    tf.nest.map_structure(np.testing.assert_array_equal, results[0], eager)


def test_lists_may_be_of_a_length_that_a_graph_does_not_know():
    layer, inputs = FusedEmbedding(FEATURES), batch(4, length=2)
    expected = layer(inputs)
    specs = {n: tf.TensorSpec([None] * v.shape.rank, v.dtype) for n, v in inputs.items()}
    train = tf.function(lambda inputs: dict(layer(inputs, training=True)))
    embedded = train.get_concrete_function(specs)(inputs)
    np.testing.assert_array_equal(embedded["history"], expected["history"])


def test_only_training_looks_for_repeats():
    layer, inputs = FusedEmbedding(FEATURES), batch(4)
    layer(inputs)
    for training, searched in ((True, True), (False, False), (None, False)):
        call = tf.function(lambda x, training=training: dict(layer(x, training=training)))
        assert ("Unique" in kinds_of(call, inputs)) == searched
    some = tf.function(lambda x: dict(layer(x, names=("user",), training=True)))
    assert "Unique" not in kinds_of(some, inputs)


def test_what_was_told_of_rows_is_searched_once_and_known_to_an_equal_layer():
    layer, other, inputs = FusedEmbedding(FEATURES), FusedEmbedding(FEATURES), batch(40)
    layer(inputs)
    expected = other(inputs)
    other.trainable = False

    @tf.function
    def call(inputs):
        told = layer.rows_read(inputs)
        return told, dict(layer(inputs, training=True)), dict(other(inputs, training=False))

    told, _, embedded = call(inputs)
    vocabularies = len({(feature.dim, feature.table) for feature in FEATURES})
    assert kinds_of(call, inputs).count("Unique") == vocabularies
    for name, vectors in expected.items():
        np.testing.assert_array_equal(embedded[name], vectors)
    for rows, repeated in zip(told, layer.rows_read(inputs), strict=True):
        assert sorted(rows.numpy()) == sorted(set(repeated.numpy()))


def test_layers_whose_columns_share_other_tables_read_their_own():
    inputs = {"user": tf.constant([1, 2]), "item": tf.constant([2, 1])}
    layers = [
        FusedEmbedding(
            [
                ModelFeature("a", "categorical", cardinality=4, dim=2, table="t1"),
                ModelFeature("b", "categorical", cardinality=4, dim=2, table="t2"),
                ModelFeature("user", "categorical", cardinality=4, dim=2, table=one),
                ModelFeature("item", "categorical", cardinality=4, dim=2, table=other),
            ]
        )
        for one, other in (("t1", "t2"), ("t2", "t1"))
    ]
    inputs |= {"a": inputs["user"], "b": inputs["user"]}
    expected = [layer(inputs) for layer in layers]
    found = tf.function(lambda x: [dict(layer(x, training=True)) for layer in layers])(inputs)
    for ours, theirs in zip(found, expected, strict=True):
        for name, vectors in theirs.items():
            np.testing.assert_array_equal(ours[name], vectors)


def test_a_layer_that_learns_has_gradients_whoever_knows_its_rows():
    layer, inputs = FusedEmbedding(FEATURES), batch(4)
    layer(inputs)

    @tf.function
    def gradients(inputs):
        layer(inputs, training=True)  # outside of any tape
        found = []
        for training in (True, False):
            with tf.GradientTape() as tape:
                vectors = layer(inputs, training=training).values()
                total = tf.add_n([tf.reduce_sum(v) for v in vectors])
            found.append([tf.convert_to_tensor(g) for g in tape.gradient(total, layer.weights)])
        return found

    for one, other in zip(*gradients(inputs), strict=True):
        np.testing.assert_allclose(one, other)


def test_replicas_and_xla_read_as_before(two_replicas):
    assert not finds_distinct_rows()  # not a graph
    assert tf.function(finds_distinct_rows)()
    assert not tf.function(finds_distinct_rows, jit_compile=True)()
    with two_replicas.scope():
        assert not tf.function(finds_distinct_rows)()
