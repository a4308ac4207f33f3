"""Adagrad against Keras, row-wise Adagrad against NumPy, and the pairing with Adam."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import (
    RowwiseAdagrad,
    SparseAdagrad,
    default_optimizer,
    sum_repeated_rows,
)
from clsd_tf.table_rows import read_rows


def reference_rowwise_adagrad(
    table: np.ndarray,
    gradients: list[np.ndarray],
    learning_rate: float,
    accumulator: float = 1e-8,
    epsilon: float = 1e-10,
) -> np.ndarray:
    """Applies dense gradients, row by row, in float64."""
    table, accumulators = table.astype(np.float64), np.full(len(table), accumulator)
    for gradient in gradients:
        for r in range(len(table)):
            row = np.asarray(gradient[r], np.float64)
            accumulators[r] += np.mean(row**2)
            table[r] -= learning_rate * row / (np.sqrt(accumulators[r]) + epsilon)
    return table


def densified(indices: np.ndarray, values: np.ndarray, num_rows: int) -> np.ndarray:
    dense = np.zeros((num_rows, *values.shape[1:]))
    np.add.at(dense, indices, values)
    return dense


def sparse_steps(num_steps: int, num_rows: int, row_shape: tuple[int, ...] = (4,), seed: int = 0):
    """Indices with duplicates, and values, per step."""
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, num_rows, 10), rng.normal(0, 1e-2, (10, *row_shape)).astype(np.float32))
        for _ in range(num_steps)
    ]


def apply_sparse(optimizer, variable, steps):
    for indices, values in steps:
        optimizer.apply_gradients([(tf.IndexedSlices(values, indices, variable.shape), variable)])


@pytest.mark.parametrize("optimizer", [None, SparseAdagrad])
def test_a_step_that_xla_compiles_is_the_same(clicks, optimizer):
    losses = []
    for by_xla in (False, True):
        keras.utils.set_random_seed(0)
        model = ClickConfidenceModel(get_backbone("mlp", clicks.inputs, units=[8]))
        model.compile(optimizer and optimizer(0.1), jit_compile=by_xla)
        rows = tf.data.Dataset.from_tensors((clicks.features, clicks.labels)).repeat(3)
        losses.append(model.fit(rows, verbose=0).history["loss"][0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


class TestSumOfRepeatedRows:
    @pytest.mark.parametrize("width", [1, 3, 40])
    @pytest.mark.parametrize("rows", [[4, 1, 4, 0, 4, 1], [2], []])
    def test_is_that_of_keras_to_the_last_bit(self, rows, width):
        values = np.random.default_rng(0).normal(size=(len(rows), width)).astype(np.float32)
        gradient = tf.IndexedSlices(values, tf.constant(rows, tf.int64), tf.constant([9, width]))
        summed = sum_repeated_rows(gradient)
        np.testing.assert_array_equal(summed.indices, list(dict.fromkeys(rows)))
        np.testing.assert_array_equal(summed.dense_shape, [9, width])
        dense = densified(np.array(rows, int), values, 9)
        np.testing.assert_allclose(summed.values, dense[summed.indices.numpy()], atol=1e-6)
        (of_keras,) = keras.optimizers.Adagrad()._deduplicate_sparse_grad([gradient])
        np.testing.assert_array_equal(summed.values, of_keras.values)

    @pytest.mark.parametrize("optimizer", [SparseAdagrad, RowwiseAdagrad])
    @pytest.mark.parametrize("row_shape", [(4,), (), (2, 3)])
    def test_is_taken_for_tables(self, optimizer, row_shape):
        """Keras calls what is overridden: a later one that does not would be slower, unseen."""
        optimizer, table = optimizer(), tf.Variable(tf.zeros([7, *row_shape]))
        optimizer.build([table])

        @tf.function
        def step(rows, values):
            gradient = tf.IndexedSlices(values, rows, table.shape)
            optimizer.apply_gradients([(gradient, table)])

        specs = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, *row_shape])
        graph = step.get_concrete_function(*specs).graph
        kinds = {operation.type for operation in graph.get_operations()}
        assert ("SparseTensorDenseMatMul" in kinds) == (len(row_shape) == 1)
        assert ("UnsortedSegmentSum" in kinds) == (len(row_shape) != 1)


class Tower(keras.layers.Layer):
    """A table inside a dict and a dense head."""

    def __init__(self):
        super().__init__()
        self.tables = {"id": keras.layers.Embedding(20, 4)}
        self.head = keras.layers.Dense(1)

    def call(self, ids):
        return self.head(self.tables["id"](ids))[:, 0]


class ListingTower(Tower):
    @property
    def embedding_variables(self):
        return self.tables["id"].trainable_weights


class MethodTower(Tower):
    def embedding_variables(self):
        return self.tables["id"].trainable_weights


class TestSparseAdagrad:
    @pytest.mark.parametrize("options", [{}, {"learning_rate": 0.5, "epsilon": 1e-3}])
    def test_it_is_the_adagrad_of_keras(self, options):
        start, steps = tf.random.stateless_normal([6, 4], [1, 2]), sparse_steps(5, 6)
        tables = []
        for optimizer in (SparseAdagrad(**options), keras.optimizers.Adagrad(**options)):
            tables.append(tf.Variable(start))
            apply_sparse(optimizer, tables[-1], steps)
            optimizer.apply_gradients([(tf.ones([6, 4]), tables[-1])])
        assert np.abs(tables[0] - start).max() > 1e-4
        np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5)

    def test_rows_without_a_gradient_stay(self):
        variable = tf.Variable(tf.ones([9, 4]))
        optimizer = SparseAdagrad()
        apply_sparse(optimizer, variable, [(np.array([2, 5, 2]), np.ones([3, 4], np.float32))])
        changed = np.flatnonzero((variable.numpy() != 1).any(axis=1))
        assert changed.tolist() == [2, 5]

    def test_it_is_saved_by_name(self):
        config = keras.optimizers.serialize(SparseAdagrad(0.2))
        restored = keras.optimizers.deserialize(config)
        assert type(restored) is SparseAdagrad
        assert float(restored.learning_rate) == pytest.approx(0.2)


class TestRowwiseAdagrad:
    @pytest.mark.parametrize("row_shape", [(), (4,), (2, 3)])
    def test_dense_equals_numpy(self, row_shape):
        rng = np.random.default_rng(0)
        start = rng.normal(size=(6, *row_shape)).astype(np.float32)
        gradients = [rng.normal(size=start.shape).astype(np.float32) for _ in range(5)]
        variable, optimizer = tf.Variable(start), RowwiseAdagrad(0.1)
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        expected = reference_rowwise_adagrad(start, gradients, 0.1)
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("row_shape", [(), (4,), (2, 3)])
    def test_sparse_with_duplicates_equals_numpy(self, row_shape):
        start = np.ones((7, *row_shape), np.float32)
        steps = sparse_steps(6, 7, row_shape)
        assert all(len(set(indices)) < len(indices) for indices, _ in steps)
        variable, optimizer = tf.Variable(start), RowwiseAdagrad()
        apply_sparse(optimizer, variable, steps)
        expected = reference_rowwise_adagrad(start, [densified(*s, 7) for s in steps], 0.03)
        np.testing.assert_allclose(variable, expected, rtol=1e-4)

    def test_rows_that_others_may_change_are_added_to_with_the_same_result(self, monkeypatch):
        results = []
        for rivals in (False, True):
            for module in ("optimizers", "table_rows"):
                monkeypatch.setattr(f"clsd_tf.{module}.has_rivals", lambda rivals=rivals: rivals)
            variable = tf.Variable(tf.ones([6, 4]))
            optimizer = RowwiseAdagrad()
            apply_sparse(optimizer, variable, sparse_steps(5, 6))
            results.append(variable.numpy())
        np.testing.assert_allclose(*results, rtol=1e-6)
        assert (results[0] != 1.0).any()

    def test_by_hand(self):
        # Row 0 gets (1, 0) + (2, 4) = (3, 4): mean square 12.5, accumulator 12.5 + 3.5 = 16,
        # rate 0.4 / 4 = 0.1. Row 1 gets nothing.
        variable = tf.Variable([[1.0, 1.0], [1.0, 1.0]])
        optimizer = RowwiseAdagrad(0.4, initial_accumulator_value=3.5)
        apply_sparse(optimizer, variable, [([0, 0], np.array([[1, 0], [2, 4]], np.float32))])
        np.testing.assert_allclose(variable, [[0.7, 0.6], [1.0, 1.0]], rtol=1e-6)

    def test_a_scalar_is_a_row(self):
        variable = tf.Variable(1.0)
        optimizer = RowwiseAdagrad(0.5, initial_accumulator_value=0.0)
        optimizer.apply_gradients([(tf.constant(-3.0), variable)])
        assert float(variable) == pytest.approx(1.5)

    def test_has_one_float_per_row_and_leaves_other_rows_alone(self):
        variable, optimizer = tf.Variable(tf.ones([50, 8])), RowwiseAdagrad()
        apply_sparse(optimizer, variable, [([3, 41], np.ones((2, 8), np.float32))])
        iterations, accumulator = optimizer.variables
        assert int(iterations) == 1
        assert accumulator.shape == (50,)
        touched = [3, 41]
        np.testing.assert_array_equal(np.flatnonzero(accumulator.numpy() > 0.5), touched)
        np.testing.assert_array_equal(
            np.flatnonzero(np.any(variable.numpy() != 1.0, axis=1)), touched
        )

    def test_a_sparse_step_has_no_operation_of_the_size_of_the_table(self):
        num_rows = 12_345
        variable, optimizer = tf.Variable(tf.zeros([num_rows, 4])), RowwiseAdagrad()
        optimizer.build([variable])

        @tf.function
        def step(ids):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(read_rows(variable, ids) ** 2)
            (gradient,) = tape.gradient(loss, [variable])
            optimizer.apply_gradients([(gradient, variable)])

        graph = step.get_concrete_function(tf.zeros([8], tf.int64)).graph
        shapes = [out.shape for op in graph.get_operations() for out in op.outputs]
        assert any(shape.rank == 2 for shape in shapes)
        assert not any(shape.rank and num_rows in shape.as_list() for shape in shapes)

    def test_a_row_without_any_gradient_stays_finite(self):
        variable = tf.Variable(tf.ones([2, 2]))
        optimizer = RowwiseAdagrad(initial_accumulator_value=0.0)
        optimizer.apply_gradients([(tf.constant([[0.0, 0.0], [1.0, 1.0]]), variable)])
        np.testing.assert_allclose(variable, [[1.0, 1.0], [0.97, 0.97]], rtol=1e-6)

    def test_learning_rate_schedule(self):
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.1])
        variable = tf.Variable([0.0])
        optimizer = RowwiseAdagrad(schedule, initial_accumulator_value=0.0)
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        np.testing.assert_allclose(variable, [-1.0])
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        np.testing.assert_allclose(variable, [-1.0 - 0.1 / np.sqrt(2.0)], rtol=1e-6)

    @pytest.mark.parametrize(
        "learning_rate", [0.2, keras.optimizers.schedules.ExponentialDecay(0.2, 10, 0.5)]
    )
    def test_serialises(self, learning_rate):
        optimizer = RowwiseAdagrad(learning_rate, initial_accumulator_value=1e-3, epsilon=1e-5)
        restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert type(restored) is RowwiseAdagrad
        assert restored.get_config() == optimizer.get_config()
        assert float(restored.learning_rate) == pytest.approx(0.2)

    def test_checkpoint_resumes_exactly(self, tmp_path):
        steps = sparse_steps(6, 7)
        variable, optimizer = tf.Variable(tf.ones([7, 4])), RowwiseAdagrad()
        apply_sparse(optimizer, variable, steps[:3])
        checkpoint = tf.train.Checkpoint(variable=variable, optimizer=optimizer)
        path = checkpoint.write(str(tmp_path / "checkpoint"))
        apply_sparse(optimizer, variable, steps[3:])

        resumed, resumed_optimizer = tf.Variable(tf.zeros([7, 4])), RowwiseAdagrad()
        checkpoint = tf.train.Checkpoint(variable=resumed, optimizer=resumed_optimizer)
        status = checkpoint.read(path)
        apply_sparse(resumed_optimizer, resumed, steps[3:])
        status.assert_consumed()
        np.testing.assert_array_equal(resumed, variable)

    def test_two_replicas_equal_one_device(self, two_replicas):
        steps = sparse_steps(4, 7)
        with two_replicas.scope():
            variable, optimizer = tf.Variable(tf.ones([7, 4])), RowwiseAdagrad()

        @tf.function
        def step(indices, values):
            def replica_fn():
                # Both halves name some rows: their sum is squared, not each on its own.
                replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                half = slice(5 * replica, 5 * replica + 5)
                gradient = tf.IndexedSlices(values[half], indices[half], tf.constant([7, 4]))
                optimizer.apply_gradients([(gradient, variable)])

            two_replicas.run(replica_fn)

        for indices, values in steps:
            assert set(indices[:5]) & set(indices[5:])
            step(tf.constant(indices), tf.constant(values))
        expected = reference_rowwise_adagrad(
            np.ones((7, 4)), [densified(*s, 7) for s in steps], 0.03
        )
        for local in two_replicas.experimental_local_results(variable):
            np.testing.assert_allclose(local, expected, rtol=1e-4)

    @pytest.mark.parametrize("bad", [{"initial_accumulator_value": -1.0}, {"epsilon": 0.0}])
    def test_bad_arguments(self, bad):
        with pytest.raises(ValueError, match=r">= 0 and `epsilon` > 0. Received: "):
            RowwiseAdagrad(**bad)


class TestDefaultOptimizer:
    IDS = np.arange(16) % 20
    LABELS = (np.arange(16) % 2).astype(np.float32)

    def fit(self, model, layers, epochs=1):
        model.compile(default_optimizer(layers), keras.losses.BinaryCrossentropy(from_logits=True))
        history = model.fit(self.IDS, self.LABELS, batch_size=8, epochs=epochs, verbose=0)
        return history.history["loss"]

    def model_of(self, tower):
        inputs = keras.Input([], dtype=tf.int64)
        return keras.Model(inputs, tower(inputs))

    @pytest.mark.parametrize("kind", [ListingTower, MethodTower])
    def test_tables_get_rowwise_adagrad_and_the_rest_adam(self, kind):
        tower = kind()
        model = self.model_of(tower)
        losses = self.fit(model, model, epochs=20)
        assert losses[-1] < losses[0] - 0.03
        adam, rowwise = model.optimizer.optimizers
        # iterations and learning rate aside: a float per row; two moments of kernel and bias.
        assert [tuple(v.shape) for v in rowwise.variables if v.shape.rank] == [(20,)]
        assert sorted(tuple(v.shape) for v in adam.variables if v.shape.rank) == [
            (1,),
            (1,),
            (4, 1),
            (4, 1),
        ]
        assert int(adam.iterations) == int(rowwise.iterations) == 40
        assert int(model.optimizer.iterations) == 40

    def test_layers_need_not_be_built(self):
        tower = ListingTower()
        optimizer = default_optimizer([tower])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tower(self.IDS))
        variables = tower.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        assert [v.shape for v in optimizer.optimizers[1].variables if v.shape.rank] == [(20,)]

    def test_without_tables_adam_does_everything(self):
        model = self.model_of(Tower())
        losses = self.fit(model, model, epochs=2)
        assert losses[-1] < losses[0]
        adam, rowwise = model.optimizer.optimizers
        assert int(adam.iterations) == 4
        assert (20, 4) in [tuple(v.shape) for v in adam.variables]
        assert not [v for v in rowwise.variables if v.shape.rank]

    def test_a_table_listed_twice_counts_once(self):
        tower = ListingTower()
        self.fit(self.model_of(tower), [tower, tower])

    def test_checkpoint_resumes_exactly(self, tmp_path):
        def checkpointed():
            tower = ListingTower()
            model = self.model_of(tower)
            model.compile(
                default_optimizer(model), keras.losses.BinaryCrossentropy(from_logits=True)
            )
            return model, tf.train.Checkpoint(model=model, optimizer=model.optimizer)

        def train(model):
            model.fit(self.IDS, self.LABELS, batch_size=8, shuffle=False, verbose=0)

        model, checkpoint = checkpointed()
        train(model)
        path = checkpoint.write(str(tmp_path / "checkpoint"))
        train(model)
        resumed, checkpoint = checkpointed()
        checkpoint.read(path)
        train(resumed)
        for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_variables_are_looked_up_only_while_tracing(self):
        lookups = []

        class Counting(ListingTower):
            @property
            def embedding_variables(self):
                lookups.append(1)
                return super().embedding_variables

        model = self.model_of(Counting())
        self.fit(model, model, epochs=1)
        after_tracing = len(lookups)
        assert after_tracing > 0
        model.fit(self.IDS, self.LABELS, batch_size=8, epochs=5, verbose=0)
        assert len(lookups) == after_tracing

    def test_works_on_two_replicas(self, two_replicas):
        with two_replicas.scope():
            model = self.model_of(ListingTower())
            optimizer = default_optimizer(model)
            model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
        losses = model.fit(self.IDS, self.LABELS, batch_size=8, epochs=20, verbose=0)
        assert losses.history["loss"][-1] < losses.history["loss"][0] - 0.03
