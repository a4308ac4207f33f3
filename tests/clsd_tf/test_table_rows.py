"""Rows are read once in a step of training, and that changes nothing but its cost."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.distribute import sharded_variable

from clsd_tf.backbones import get_backbone
from clsd_tf.embeddings import FusedEmbedding, keras_inputs
from clsd_tf.features import ModelFeature
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import RowwiseAdagrad, SparseAdagrad
from clsd_tf.table_rows import (
    are_distinct,
    distinct_rows,
    finds_distinct_rows,
    read_rows,
    reread_rows,
    spread,
    sum_by_place,
)

# Two dimensions, a vocabulary of two columns, and neighbours that are none in the table.
FEATURES = (
    ModelFeature("user", "categorical", cardinality=5, dim=2, table="user"),
    ModelFeature("item", "categorical", cardinality=4, dim=2, table="item"),
    ModelFeature("history", "categorical", cardinality=4, dim=2, length=3, table="item"),
    ModelFeature("city", "categorical", cardinality=3, dim=7, table="city"),
    ModelFeature("shop", "categorical", cardinality=6, dim=2, table="shop"),
)


def batch(rows: int, length: int = 3) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(rows)
    return {
        feature.name: tf.constant(
            rng.integers(0, feature.cardinality, (rows, length) if feature.is_list else rows)
        )
        for feature in FEATURES
    }


def kinds_of(function: tf.types.experimental.GenericFunction, *args: object) -> list[str]:
    """Types of the operations of a function's graph."""
    return [op.type for op in function.get_concrete_function(*args).graph.get_operations()]


def test_rows_of_any_shape_are_read_from_tables_of_any_rank():
    matrix, vector = np.arange(12.0).reshape(4, 3), np.arange(4)
    for shape in ([5], [2, 3], [2, 3, 2], [0, 3], [0]):
        rows = np.random.default_rng(0).integers(0, 4, shape)
        for values in (matrix, vector):
            for table in (tf.Variable(values), tf.constant(values)):
                read = read_rows(table, tf.constant(rows, tf.int64))
                np.testing.assert_array_equal(read, values[rows])


def test_a_table_that_is_cut_is_not_fetched_whole(monkeypatch):
    """Its parts lie on parameter servers, whatever the scope in which it is read."""
    parts = [tf.Variable(tf.ones([2, 3])), tf.Variable(2.0 * tf.ones([2, 3]))]
    table = sharded_variable.ShardedVariable(parts)

    @tf.function
    def read(rows):
        return read_rows(table, rows)

    np.testing.assert_array_equal(read(tf.constant([3, 0]))[:, 0], [2.0, 1.0])
    graph = read.get_concrete_function(tf.constant([3, 0])).graph
    assert "ReadVariableOp" not in {op.type for op in graph.get_operations()}
    monkeypatch.setattr("clsd_tf.table_rows.has_rivals", lambda: True)
    whole = tf.function(lambda rows: read_rows(parts[0], rows))
    kinds = {op.type for op in whole.get_concrete_function(tf.constant([1])).graph.get_operations()}
    assert "ResourceGather" in kinds and "ResourceGatherNd" not in kinds


def test_a_row_that_a_table_has_not_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not index into"):
        read_rows(tf.Variable(tf.zeros([4, 2])), tf.constant([1, 4]))


class TestFusedEmbedding:
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    @pytest.mark.parametrize(("rows", "length"), [(6, 3), (1, 3), (0, 3), (6, 1)])
    def test_training_gives_the_same_vectors_and_gradients(self, policy, rows, length):
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

    def test_lists_may_be_of_a_length_that_a_graph_does_not_know(self):
        layer, inputs = FusedEmbedding(FEATURES), batch(4, length=2)
        expected = layer(inputs)
        specs = {n: tf.TensorSpec([None] * v.shape.rank, v.dtype) for n, v in inputs.items()}
        train = tf.function(lambda inputs: dict(layer(inputs, training=True)))
        embedded = train.get_concrete_function(specs)(inputs)
        np.testing.assert_array_equal(embedded["history"], expected["history"])

    def test_only_training_looks_for_repeats(self):
        layer, inputs = FusedEmbedding(FEATURES), batch(4)
        layer(inputs)
        for training, searched in ((True, True), (False, False), (None, False)):
            call = tf.function(lambda x, training=training: dict(layer(x, training=training)))
            assert ("Unique" in kinds_of(call, inputs)) == searched
        some = tf.function(lambda x: dict(layer(x, names=("user",), training=True)))
        assert "Unique" not in kinds_of(some, inputs)

    def test_what_was_told_of_rows_is_searched_once_and_known_to_an_equal_layer(self):
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

    def test_layers_whose_columns_share_other_tables_read_their_own(self):
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

    def test_a_layer_that_learns_has_gradients_whoever_knows_its_rows(self):
        layer, inputs = FusedEmbedding(FEATURES), batch(4)
        layer(inputs)

        @tf.function
        def gradients(inputs):
            found = []
            for training in (True, False):
                with tf.GradientTape() as tape:
                    total = tf.add_n(
                        [tf.reduce_sum(v) for v in layer(inputs, training=training).values()]
                    )
                found.append([tf.convert_to_tensor(g) for g in tape.gradient(total, layer.weights)])
                for table in layer.weights:
                    table.assign_add(tf.zeros_like(table))
            return found

        for one, other in zip(*gradients(inputs), strict=True):
            np.testing.assert_allclose(one, other)

    def test_replicas_and_xla_read_as_before(self, two_replicas):
        assert not finds_distinct_rows()  # not a graph
        assert tf.function(finds_distinct_rows)()
        assert not tf.function(finds_distinct_rows, jit_compile=True)()
        with two_replicas.scope():
            assert not tf.function(finds_distinct_rows)()


def test_vectors_are_put_where_they_are_wanted_and_gradients_summed():
    rows = [{"a": [7, 3, 7]}, {"b": [12, 10], "c": [10, 11, 10]}]

    @tf.function
    def both():
        tables = [{name: tf.constant(c, tf.int64) for name, c in t.items()} for t in rows]
        read, places = distinct_rows(tables)
        assert are_distinct(read) and are_distinct(tf.reshape(read, [-1, 1]))
        assert not are_distinct(tf.concat([read, read], axis=0)) and not are_distinct(read + 1)
        vectors = tf.cast(read, tf.float32)[:, tf.newaxis]
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            first, _, third = spread(vectors, *(places[name] for name in "abc"))
            total = tf.reduce_sum(first * [[1.0], [2.0], [4.0]]) + tf.reduce_sum(8.0 * third)
        return read, [first, third], tape.gradient(total, vectors)

    read, (first, third), gradient = both()
    np.testing.assert_array_equal(read, [7, 3, 12, 10, 11])
    np.testing.assert_array_equal(first[:, 0], [7, 3, 7])
    np.testing.assert_array_equal(third[:, 0], [10, 11, 10])
    np.testing.assert_array_equal(gradient[:, 0], [1 + 4, 2, 0, 16, 8])
    assert not are_distinct(tf.constant([1, 2]))


def test_what_was_written_is_not_read_again():
    table = tf.Variable(tf.zeros([6, 2]))

    @tf.function
    def step(ids):
        rows, _ = distinct_rows([{"ids": ids}])
        values = tf.cast(rows[:, tf.newaxis], tf.float32) * tf.ones([1, 2])
        table.scatter_update(tf.IndexedSlices(values, rows))
        at_hand = reread_rows(table, rows)
        assert at_hand is values
        table.scatter_update(tf.IndexedSlices(tf.ones([1, 2]), tf.constant([4], tf.int64)))
        again = reread_rows(table, rows)
        table.scatter_update(tf.IndexedSlices(values + 1.0, rows))
        return rows, at_hand, again, reread_rows(table, rows)

    rows, first, second, third = step(tf.constant([4, 2, 4], tf.int64))
    np.testing.assert_array_equal(rows, [4, 2])
    np.testing.assert_array_equal(first, [[4, 4], [2, 2]])
    np.testing.assert_array_equal(second, [[1, 1], [2, 2]])
    np.testing.assert_array_equal(third, [[5, 5], [3, 3]])


def test_sums_by_place_are_those_of_numpy():
    rng = np.random.default_rng(0)
    values, places = rng.normal(size=(30, 3)).astype(np.float32), rng.integers(0, 8, 30)
    expected = np.zeros((9, 3))
    np.add.at(expected, places, values)
    for dtype, near in ((tf.float32, 1e-6), (tf.float64, 1e-14)):
        sums = sum_by_place(
            tf.constant(values, dtype), tf.constant(places), tf.constant(9, tf.int64)
        )
        np.testing.assert_allclose(sums, expected, atol=near)


class TestStep:
    """Whole steps, beside those that run eagerly and read as anything else does."""

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
    def test_learns_what_an_eager_one_learns(self, clicks, backbone, optimizer):
        weights = []
        for eagerly in (False, True):
            keras.utils.set_random_seed(0)
            model = ClickConfidenceModel(get_backbone(backbone, clicks.inputs))
            model.compile(optimizer(), run_eagerly=eagerly)
            model.fit(clicks.dataset(500), epochs=2, verbose=0)
            weights.append(model.backbone.get_weights())
        for graph, eager in zip(*weights, strict=True):
            np.testing.assert_allclose(graph, eager, rtol=1e-3, atol=1e-5)

    def test_several_in_a_loop_are_the_same(self, clicks):
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
    def test_a_functional_model_reads_and_searches_its_table_once(self, clicks, optimizer):
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
    def test_a_table_that_was_written_to_is_read_again(self, how, decay):
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

    def test_an_optimizer_clips_what_a_row_gets(self):
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
