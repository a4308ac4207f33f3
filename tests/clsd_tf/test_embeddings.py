"""One table for many columns gives what a table for each would give."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.columns import mean_pool
from clsd_tf.embeddings import FusedEmbedding, keras_inputs
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import FieldVectors

FEATURES = (
    ModelFeature("user", "categorical", cardinality=5, dim=2, table="user"),
    ModelFeature("item", "categorical", cardinality=4, dim=2, table="item"),
    ModelFeature("history", "categorical", cardinality=4, dim=2, length=3, table="item"),
    ModelFeature("city", "categorical", cardinality=3, dim=7, table="city"),
    ModelFeature("price", "numeric"),
)
INPUTS = {
    "user": tf.constant([0, 4], tf.int64),
    "item": tf.constant([3, 1], tf.int64),
    "history": tf.constant([[1, 3, 0], [0, 0, 0]], tf.int64),
    "city": tf.constant([2, 0], tf.int64),
    "price": tf.constant([1.0, 2.0]),
}


def test_each_feature_reads_its_own_rows_of_the_common_table():
    layer = FusedEmbedding(FEATURES)
    embedded = layer(INPUTS)
    narrow, wide = layer.embedding_variables
    assert narrow.shape == (5 + 4, 2)  # users, then items; the history has none of its own
    assert wide.shape == (3, 7)
    np.testing.assert_array_equal(embedded["user"], narrow.numpy()[[0, 4]])
    np.testing.assert_array_equal(embedded["item"], narrow.numpy()[[5 + 3, 5 + 1]])
    np.testing.assert_array_equal(embedded["city"], wide.numpy()[[2, 0]])
    assert "price" not in embedded


def test_a_history_shares_the_vectors_of_its_items():
    embedded = FusedEmbedding(FEATURES)(INPUTS)
    np.testing.assert_array_equal(embedded["history"][0, 0], embedded["item"][1])
    np.testing.assert_array_equal(embedded["history"][0, 1], embedded["item"][0])


def test_gradients_touch_the_rows_of_the_batch_only():
    layer = FusedEmbedding(FEATURES)
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(v) for v in layer(INPUTS).values()])
    gradient = tape.gradient(total, layer.embedding_variables[0])
    assert isinstance(gradient, tf.IndexedSlices)
    assert set(gradient.indices.numpy()) == {0, 4, 5 + 3, 5 + 1, 5 + 0}


def test_lists_may_be_of_a_length_that_a_graph_does_not_know():
    layer = FusedEmbedding(FEATURES)
    layer(INPUTS)
    specs = {n: tf.TensorSpec([None] * v.shape.rank, v.dtype) for n, v in INPUTS.items()}
    embedded = tf.function(layer).get_concrete_function(specs)(INPUTS)
    np.testing.assert_array_equal(embedded["history"], layer(INPUTS)["history"])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_gradients_are_sparse_on_replicas_too(two_replicas, policy):
    with two_replicas.scope():
        layer = FusedEmbedding(FEATURES, dtype=policy)
        layer(INPUTS)

    @tf.function
    def rows_of_gradients():
        with tf.GradientTape() as tape:
            total = tf.add_n([tf.reduce_sum(v) for v in layer(INPUTS).values()])
        gradients = tape.gradient(total, layer.trainable_variables)
        assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
        return gradients[0].indices

    for rows in two_replicas.experimental_local_results(two_replicas.run(rows_of_gradients)):
        assert set(rows.numpy()) == {0, 4, 5 + 3, 5 + 1, 5 + 0}


def test_padding_does_not_count_in_the_mean_of_a_list():
    vectors = tf.constant([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]], [[9.0, 9.0]] * 3])
    ids = tf.constant([[7, 8, 0], [0, 0, 0]])
    np.testing.assert_allclose(mean_pool(vectors, ids), [[2.0, 4.0], [0.0, 0.0]])


def test_a_functional_model_of_ones_own_takes_the_same_features():
    inputs = keras_inputs(FEATURES)
    embedded = FusedEmbedding(FEATURES)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(embedded["user"]))
    assert model(INPUTS).shape == (2, 1)


class TestColumnsSideBySide:
    FEATURES = (
        ModelFeature("a", "categorical", cardinality=9, dim=2, table="a"),
        ModelFeature("b", "categorical", cardinality=9, dim=2, table="b"),
        ModelFeature("x", "numeric"),
        ModelFeature("c", "categorical", cardinality=9, dim=2, table="c"),
        ModelFeature("d", "categorical", cardinality=9, dim=3, table="d"),
        ModelFeature("past", "categorical", cardinality=9, dim=2, length=2, table="a"),
        ModelFeature("e", "categorical", cardinality=9, dim=2, table="e"),
        ModelFeature("f", "categorical", cardinality=9, dim=2, table="f"),
    )

    @pytest.fixture
    def inputs(self):
        return {
            **{name: tf.constant([1, 2]) for name in "abcdef"},
            "past": tf.constant([[3, 0], [4, 5]]),
            "x": tf.constant([0.5, 0.25]),
        }

    def test_runs_are_of_consecutive_scalars_of_a_table(self, inputs):
        embedded = FusedEmbedding(self.FEATURES)(inputs)
        assert set(embedded.runs) == {("a", "b"), ("c",), ("d",), ("e", "f")}
        for names, run in embedded.runs.items():
            np.testing.assert_array_equal(run, tf.concat([embedded[n] for n in names], axis=1))

    def test_a_replaced_column_is_no_part_of_a_run(self, inputs):
        embedded = FusedEmbedding(self.FEATURES)(inputs)
        changed = embedded.replaced({"a": tf.zeros([2, 2])})
        assert set(changed.runs) == {("c",), ("d",), ("e", "f")}
        np.testing.assert_array_equal(changed["a"], np.zeros([2, 2]))
        np.testing.assert_array_equal(changed["b"], embedded["b"])

    def test_a_backbone_sees_what_single_columns_would_show_it(self, inputs):
        backbone = get_backbone("mlp", self.FEATURES)
        embedded = backbone.embedding(inputs)
        plain = dict(embedded)  # of which nothing is known
        flat = backbone.flatten(inputs, backbone.pool(inputs, embedded))
        np.testing.assert_array_equal(flat, backbone.flatten(inputs, backbone.pool(inputs, plain)))
        assert flat.shape == (2, 2 * 6 + 3 + 1)

    def test_parts_are_all_columns_in_their_order_and_as_few_as_there_are(self, inputs):
        embedded = FusedEmbedding(self.FEATURES)(inputs)
        pooled = embedded.replaced({"past": mean_pool(embedded["past"], inputs["past"])})
        parts = list(pooled.parts())
        runs = [("a", "b"), ("c",), ("past",), ("e", "f"), ("d",)]
        assert [names for names, _ in parts] == runs
        whole = tf.concat([pooled[name] for names in runs for name in names], axis=1)
        np.testing.assert_array_equal(pooled.flat(), whole)

    @pytest.mark.parametrize("dim", [2, 3])
    def test_vectors_of_fields_are_the_same_of_runs_and_of_single_columns(self, inputs, dim):
        backbone = get_backbone("mlp", self.FEATURES)
        columns = backbone.columns(inputs, backbone.pool(inputs, backbone.embedding(inputs)))
        fields = FieldVectors(self.FEATURES, dim=dim)
        together = fields(columns, columns.runs)
        assert together.shape == (2, len(self.FEATURES), dim)
        np.testing.assert_array_equal(together, fields(dict(columns)))


def test_a_column_out_of_a_run_is_that_column():
    layer = FusedEmbedding(FEATURES)
    embedded = layer(INPUTS)
    assert len(embedded.runs) == 2 and ("user", "item") in embedded.runs
    for name, vectors in embedded.items():
        np.testing.assert_array_equal(embedded.column(name), vectors)
