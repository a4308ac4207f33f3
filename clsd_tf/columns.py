"""Columns of vectors: by name, side by side, and lists as their means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf

from clsd_tf.features import ModelFeature


class EmbeddedColumns(dict[str, tf.Tensor]):
    """Column -> vectors, and what of them lies side by side already.

    Vectors of neighbouring scalars come out of one gather. To cut them by column and put them
    together again costs a tenth of a training step, and gains nothing.

    Attributes:
      runs: names of consecutive columns of scalars -> float32 [batch, their dimensions together].
        Of a plain dict's columns nothing is known.
    """

    def __init__(self, *args, runs: Mapping[tuple[str, ...], tf.Tensor] | None = None):
        """See the class."""
        super().__init__(*args)
        self.runs = dict(runs or {})

    def column(self, name: str) -> tf.Tensor:
        """Vectors of one column, cut out of its run; where many are wanted `[name]` is cheaper."""
        for run, values in self.runs.items():
            if name in run:
                widths = [self[column].shape[1] for column in run]
                first = sum(widths[: run.index(name)])
                return values[:, first : first + self[name].shape[1]]
        return self[name]

    def replaced(self, vectors: Mapping[str, tf.Tensor]) -> EmbeddedColumns:
        """The columns with other vectors for some of them."""
        return EmbeddedColumns({**self, **vectors}, runs=self.without(vectors).runs)

    def without(self, names: Iterable[str]) -> EmbeddedColumns:
        """The columns but for some of them."""
        left_out = set(names)
        runs = {run: values for run, values in self.runs.items() if left_out.isdisjoint(run)}
        return EmbeddedColumns({n: self[n] for n in self if n not in left_out}, runs=runs)

    def pooled(self, inputs: Mapping[str, tf.Tensor]) -> EmbeddedColumns:
        """Averages each list over its elements, see `mean_pool`: all are `[batch, dim]` then."""
        lists = {name: vectors for name, vectors in self.items() if vectors.shape.rank != 2}
        return self.replaced({name: mean_pool(lists[name], inputs[name]) for name in lists})

    def parts(self) -> Iterator[tuple[tuple[str, ...], tf.Tensor]]:
        """Yields all columns in their order, in as few parts as there are: names, vectors."""
        parts = {(name,): vectors for name, vectors in self.items()} | self.runs
        names = tuple(self)
        while names:
            # The longest of what begins here, so that least is put together.
            run = max((run for run in parts if run == names[: len(run)]), key=len)
            yield run, parts[run]
            names = names[len(run) :]

    def with_numbers(
        self, inputs: Mapping[str, tf.Tensor], features: Sequence[ModelFeature], dtype: tf.DType
    ) -> EmbeddedColumns:
        """Adds numbers, [batch] in `inputs`, as [batch, 1]; in the order of `features`."""
        columns = {
            feature.name: self[feature.name]
            if feature.kind == "categorical"
            else tf.cast(inputs[feature.name], dtype)[:, tf.newaxis]
            for feature in features
        }
        return EmbeddedColumns(columns, runs=self.runs)

    def flat(self) -> tf.Tensor:
        """All columns side by side: [batch, width]; they are `[batch, dim]` each."""
        return tf.concat([part for _, part in self.parts()], axis=1)


def mean_pool(vectors: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Mean over the elements of a list that are not padding.

    Args:
      vectors: float [batch, length, dim].
      ids: int [batch, length], 0 for padding.

    Returns:
      float [batch, dim]; zeros for an empty list.
    """
    mask = tf.cast(ids > 0, vectors.dtype)
    total = tf.matmul(mask[:, tf.newaxis], vectors)[:, 0]  # without a copy of all vectors
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1, keepdims=True))
