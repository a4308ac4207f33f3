"""Adagrad and row-wise Adagrad for embedding tables, and the default pairing of it with Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import tensorflow as tf
import tf_keras as keras

from clsd_tf.compat import use_keras_2
from clsd_tf.distributed import has_rivals, is_on_cpu
from clsd_tf.table_rows import are_distinct, read_rows, reread_rows, sum_by_place

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


def sum_repeated_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Adds up the values of each row of a sparse gradient: every row is there once.

    Args:
      gradient: of a table, values float32 [rows, dim].
    """
    rows, places = tf.unique(gradient.indices)
    sums = sum_by_place(gradient.values, places, tf.size(rows, tf.int64))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


class _SumsRows(keras.optimizers.Optimizer):
    """Sums repeated rows of tables by `sum_repeated_rows`, and others as Keras does.

    Of what `FusedEmbedding` read in training, rows are summed already.
    """

    def _deduplicate_sparse_grad(
        self, grads: Sequence[tf.Tensor | tf.IndexedSlices | None]
    ) -> list[tf.Tensor | tf.IndexedSlices | None]:
        # XLA has no such product, and on a GPU it is not deterministic.
        if not is_on_cpu():
            return super()._deduplicate_sparse_grad(grads)
        summed = []
        for gradient in grads:
            if isinstance(gradient, tf.IndexedSlices) and are_distinct(gradient.indices):
                summed.append(gradient)
            elif isinstance(gradient, tf.IndexedSlices) and _is_of_table(gradient):
                summed.append(sum_repeated_rows(gradient))
            else:
                summed += super()._deduplicate_sparse_grad([gradient])
        return summed


@keras.saving.register_keras_serializable(package="clsd_tf")
class SparseAdagrad(_SumsRows, keras.optimizers.Adagrad):
    """`keras.optimizers.Adagrad` with the same results, and tables in half the time.

    Keras adds to the rows of a batch one by one. Here they are read together, and overwritten by a
    copy; other workers of a parameter server would be lost by that, and get Keras' own way.

    Takes the arguments of `keras.optimizers.Adagrad`.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates `variable`; the base class has summed repeated rows of a sparse gradient."""
        if not isinstance(gradient, tf.IndexedSlices) or has_rivals():
            super().update_step(gradient, variable)
            return
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        values, rows = gradient.values, gradient.indices
        sums = read_rows(accumulator, rows) + tf.square(values)
        accumulator.scatter_update(tf.IndexedSlices(sums, rows))
        rate = tf.cast(self.learning_rate, values.dtype)
        step = rate * values * tf.math.rsqrt(sums + self.epsilon)
        variable.scatter_update(tf.IndexedSlices(reread_rows(variable, rows) - step, rows))


@keras.saving.register_keras_serializable(package="clsd_tf")
class RowwiseAdagrad(_SumsRows):
    """Adagrad with one accumulator per row of a table instead of one per entry.

        accumulator[r] += mean over entries of g[r]^2
        table[r]       -= learning_rate * g[r] / (sqrt(accumulator[r]) + epsilon)

    This is the exact row-wise Adagrad of FBGEMM and TorchRec. A sparse gradient reads and writes
    the rows of the batch only, whatever the size of the table; repeated rows are summed before they
    are squared. A dense gradient does the same to all rows. Entries of a vector, and a scalar, are
    rows of their own.

    The initial accumulator is small on purpose: gradients of a batch mean are tiny, and the 0.1 of
    `keras.optimizers.Adagrad` would all but stop the embeddings.

    Args:
      learning_rate: float or schedule. Defaults to 0.03.
      initial_accumulator_value: >= 0. Defaults to 1e-8.
      epsilon: > 0; keeps rows without any gradient finite. Defaults to 1e-10.
      name: name of the optimizer.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.03,
        initial_accumulator_value: float = 1e-8,
        epsilon: float = 1e-10,
        name: str = "RowwiseAdagrad",
    ):
        if initial_accumulator_value < 0.0 or not epsilon > 0.0:
            raise ValueError(
                "`initial_accumulator_value` must be >= 0 and `epsilon` > 0. Received: "
                f"initial_accumulator_value={initial_accumulator_value}, epsilon={epsilon}. "
                "The defaults are 1e-8 and 1e-10."
            )
        # Any weight decay but None, 0 included, rewrites the whole table at every step.
        super().__init__(name=name, weight_decay=None, jit_compile=False)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the accumulators, [rows] each."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._accumulators = [
            self.add_variable_from_reference(
                variable,
                "accumulator",
                initial_value=tf.fill(
                    variable.shape[:1],
                    tf.constant(self.initial_accumulator_value, variable.dtype),
                ),
            )
            for variable in var_list
        ]

    def accumulator(self, variable: tf.Variable) -> tf.Variable:
        """The accumulators of a variable's rows, [rows]; the optimizer must be built."""
        return self._accumulators[self._index_dict[self._var_key(variable)]]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates `variable`; the base class has summed repeated rows of a sparse gradient."""
        accumulator = self.accumulator(variable)
        rank = variable.shape.rank
        if isinstance(gradient, tf.IndexedSlices):
            values, rows = gradient.values, gradient.indices
            squares = _mean_square(values, rank)
            if has_rivals():
                accumulator.scatter_add(tf.IndexedSlices(squares, rows))
                step = self._step(values, read_rows(accumulator, rows), rank)
                variable.scatter_sub(tf.IndexedSlices(step, rows))
                return
            # The same in less time: rows are overwritten by a copy, but added to one by one.
            sums = read_rows(accumulator, rows) + squares
            accumulator.scatter_update(tf.IndexedSlices(sums, rows))
            step = self._step(values, sums, rank)
            variable.scatter_update(tf.IndexedSlices(reread_rows(variable, rows) - step, rows))
        else:
            accumulator.assign_add(_mean_square(gradient, rank))
            variable.assign_sub(self._step(gradient, accumulator, rank))

    def get_config(self) -> dict[str, object]:
        """See `keras.optimizers.Optimizer`."""
        return {
            "name": self.name,
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }

    def _step(self, gradient: tf.Tensor, accumulator: tf.Tensor, rank: int) -> tf.Tensor:
        rate = tf.cast(self.learning_rate, gradient.dtype) / (tf.sqrt(accumulator) + self.epsilon)
        return gradient * (tf.reshape(rate, [-1] + [1] * (rank - 1)) if rank > 1 else rate)


def default_optimizer(
    layers: keras.layers.Layer | Sequence[keras.layers.Layer],
    *,
    learning_rate: LearningRate = 1e-3,
    embedding_learning_rate: LearningRate = 0.03,
) -> tfrs.experimental.optimizers.CompositeOptimizer:
    """Adam for dense weights and `RowwiseAdagrad` for embedding tables.

    A table is a variable listed by the attribute `embedding_variables` (a sequence, or a method
    that returns one) of one of the layers or their sublayers. It is looked up when gradients are
    applied, so the layers need not be built yet. Without any table, Adam does everything.

    Args:
      layers: the backbone, or all layers that hold trainable variables.
      learning_rate: of the dense weights: float or schedule.
      embedding_learning_rate: of the tables: float or schedule.

    Returns:
      An optimizer for `compile` or `apply_gradients`. Its parts are `optimizers`: Adam, then
      RowwiseAdagrad.
    """
    layers = [layers] if isinstance(layers, tf.Module) else list(layers)

    def tables() -> list[tf.Variable]:
        return _tables(layers)

    def dense() -> list[tf.Variable]:
        sparse = {variable.ref() for variable in tables()}
        trainable = (variable for layer in layers for variable in layer.trainable_variables)
        return [variable for variable in _unique(trainable) if variable.ref() not in sparse]

    # Adam is first because the pair counts its iterations by the first one, which must not be idle.
    return tfrs.experimental.optimizers.CompositeOptimizer(
        [
            (keras.optimizers.Adam(learning_rate), dense),
            (RowwiseAdagrad(embedding_learning_rate), tables),
        ]
    )


def parts_of(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers that one is made of; itself, if it is none of `default_optimizer`."""
    is_pair = isinstance(optimizer, tfrs.experimental.optimizers.CompositeOptimizer)
    return optimizer.optimizers if is_pair else [optimizer]


def check_scaling(
    optimizer: keras.optimizers.Optimizer, policy: keras.mixed_precision.Policy
) -> None:
    """Raises ValueError where a policy needs a loss that is scaled, and the optimizer cannot."""
    if policy.name == "mixed_float16" and len(parts_of(optimizer)) > 1:
        raise ValueError(
            "An optimizer of several parts cannot scale the loss, which float16 needs. Received: "
            f"{type(optimizer).__name__} under the policy mixed_float16. Use mixed_bfloat16, which "
            "needs no scaling, or compile with `keras.optimizers.Adam()`."
        )


def build_optimizer(
    optimizer: keras.optimizers.Optimizer, layers: Sequence[keras.layers.Layer]
) -> None:
    """Creates the variables of an optimizer, as its first step would.

    Args:
      optimizer: of `default_optimizer`, or any other.
      layers: that it trains, built; in the order of `ClickConfidenceModel.learners`.
    """
    learned = [variable for layer in layers for variable in layer.trainable_variables]
    parts, tables = parts_of(optimizer), {table.ref() for table in _tables(layers)}
    for part in parts:
        own = learned
        if len(parts) > 1:
            is_for_tables = isinstance(part, RowwiseAdagrad)
            own = [v for v in learned if (v.ref() in tables) == is_for_tables]
        if own:
            part.build(own)


def _tables(layers: Sequence[keras.layers.Layer]) -> list[tf.Variable]:
    return _unique(
        variable
        for layer in layers
        for module in (layer, *layer.submodules)
        for variable in _embedding_variables(module)
    )


def _is_of_table(gradient: tf.IndexedSlices) -> bool:
    values = tf.convert_to_tensor(gradient.values)
    return values.shape.rank == 2 and values.dtype == tf.float32


def _mean_square(gradient: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns the mean square of each row: [rows, ...] -> [rows]."""
    return tf.reduce_mean(tf.square(gradient), axis=list(range(1, rank)))


def _embedding_variables(module: tf.Module) -> Sequence[tf.Variable]:
    variables: Sequence[tf.Variable] | Callable[[], Sequence[tf.Variable]]
    variables = getattr(module, "embedding_variables", ())
    return variables() if callable(variables) else variables


def _unique(variables: Iterable[tf.Variable]) -> list[tf.Variable]:
    return [reference.deref() for reference in dict.fromkeys(v.ref() for v in variables)]
