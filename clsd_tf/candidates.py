"""One user and many items: what the items of a request share is computed once.

A request for 500 candidates holds one user, and a backbone given 500 rows would read the user's
embeddings and average the history 500 times. Here they are read once. By rows of its kernel, a
dense layer over columns side by side is a sum:

    x W = x_shared W_shared + x_own W_own

and the first term is the same for all candidates of a request.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import tensorflow as tf
import tf_keras as keras

from clsd_tf.columns import EmbeddedColumns
from clsd_tf.embeddings import FusedEmbedding
from clsd_tf.features import ModelFeature


class CandidateFeatures:
    """Features of the candidates of some requests.

    Args:
      once: features that the candidates of a request share, `[requests, ...]`.
      own: features of the candidates, `[requests * candidates, ...]`.
      requests: how many there are, int32 scalar.
      count: candidates of each request, int32 scalar.
    """

    def __init__(
        self,
        once: Mapping[str, tf.Tensor],
        own: Mapping[str, tf.Tensor],
        requests: tf.Tensor,
        count: tf.Tensor,
    ):
        """See the class."""
        self.once, self.own = (
            {name: tf.convert_to_tensor(part[name]) for name in part} for part in (once, own)
        )
        self.requests, self.count = requests, count

    def repeat(self, values: tf.Tensor) -> tf.Tensor:
        """[requests, ...] -> [requests * candidates, ...]."""
        return tf.repeat(values, self.count, axis=0)

    def repeated(self) -> dict[str, tf.Tensor]:
        """All features of all candidates. Where a graph runs, what nobody reads is not computed."""
        return {**{name: self.repeat(self.once[name]) for name in self.once}, **self.own}

    def only(self, names: Sequence[str], dtype: tf.DType) -> CandidateFeatures:
        """Some of the features, in this order; numbers in the given `dtype`."""

        def selected(part: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            chosen = {name: part[name] for name in names if name in part}
            return {
                name: tf.cast(values, dtype) if values.dtype.is_floating else values
                for name, values in chosen.items()
            }

        return CandidateFeatures(selected(self.once), selected(self.own), self.requests, self.count)

    def embedded(self, embedding: FusedEmbedding) -> CandidateColumns:
        """Their embeddings."""
        once, own = (embedding(part, names=tuple(part)) for part in (self.once, self.own))
        names = [f.name for f in embedding.features if f.name in once or f.name in own]
        return CandidateColumns(once, own, self, names)


class CandidateColumns(EmbeddedColumns):
    """Columns of candidates, of which some are the same for all candidates of a request.

    A copy that Keras makes, in which it sets all columns, shares nothing.

    Args:
      once: the shared ones, float [requests, ...]; among the columns they are repeated.
      own: the others, float [requests * candidates, ...].
      features: that the columns are made of.
      names: of all columns, in their order.
    """

    def __init__(
        self,
        once: EmbeddedColumns | None = None,
        own: EmbeddedColumns | None = None,
        features: CandidateFeatures | None = None,
        names: Sequence[str] = (),
    ):
        """See the class."""
        super().__init__()
        self.once, self.own = once or EmbeddedColumns(), own or EmbeddedColumns()
        self.features = features
        if features is not None:
            columns = {**{name: features.repeat(self.once[name]) for name in self.once}, **self.own}
            self.update({name: columns[name] for name in names})
            self.runs.update({run: features.repeat(v) for run, v in self.once.runs.items()})
            self.runs.update(self.own.runs)

    def column(self, name: str) -> tf.Tensor:
        """See the base class; runs of shared columns would be repeated for it."""
        return self[name] if self.features is not None else super().column(name)

    def replaced(self, vectors: Mapping[str, tf.Tensor]) -> EmbeddedColumns:
        """See the base class; the other vectors are of candidates."""
        if self.features is None:
            return super().replaced(vectors)
        once, own = self.once.without(vectors), self.own.replaced(vectors)
        return CandidateColumns(once, own, self.features, [*{**self, **vectors}])

    def pooled(self, inputs: Mapping[str, tf.Tensor]) -> EmbeddedColumns:
        """See the base class; a list that is shared is averaged once."""
        if self.features is None:
            return super().pooled(inputs)
        once, own = self.once.pooled(self.features.once), self.own.pooled(inputs)
        return CandidateColumns(once, own, self.features, [*self])

    def with_numbers(
        self, inputs: Mapping[str, tf.Tensor], features: Sequence[ModelFeature], dtype: tf.DType
    ) -> EmbeddedColumns:
        """See the base class."""
        if self.features is None:
            return super().with_numbers(inputs, features, dtype)
        given = self.features.once
        shared = [f for f in features if f.name in (given if f.kind == "numeric" else self.once)]
        others = [f for f in features if f not in shared]
        once = self.once.with_numbers(given, shared, dtype)
        own = self.own.with_numbers(inputs, others, dtype)
        return CandidateColumns(once, own, self.features, [f.name for f in features])

    def flat(self) -> tf.Tensor:
        """See the base class."""
        parts = []
        for names, is_shared in self._stretches():
            source = self.once if is_shared else self
            part = tf.concat([source[name] for name in names], axis=1)
            parts.append(self.features.repeat(part) if is_shared else part)
        return tf.concat(parts, axis=1)

    def times(self, kernel: tf.Tensor) -> tf.Tensor:
        """`flat() @ kernel`: [requests * candidates, units], in the dtype of `kernel`."""
        once, own, rows, start = [], [], [], 0
        for names, is_shared in self._stretches():
            width = sum(self[name].shape[1] for name in names)
            if is_shared:
                once += [self.once[name] for name in names]
            else:
                # Cheaper than a copy of the kernel without these rows.
                once.append(tf.zeros([self.features.requests, width], self[names[0]].dtype))
                own += [self[name] for name in names]
                rows.append(kernel[start : start + width])
            start += width
        shared = tf.cast(tf.concat(once, axis=1), kernel.dtype) @ kernel
        if not own:
            return self.features.repeat(shared)
        product = tf.cast(tf.concat(own, axis=1), kernel.dtype) @ tf.concat(rows, axis=0)
        requests, count, units = self.features.requests, self.features.count, kernel.shape[1]
        product = tf.reshape(product, [requests, count, units]) + shared[:, tf.newaxis]
        return tf.reshape(product, [requests * count, units])

    def _stretches(self) -> list[tuple[list[str], bool]]:
        """Names of consecutive columns, and whether they are shared."""
        stretches = itertools.groupby(self, lambda name: name in self.once)
        return [(list(names), is_shared) for is_shared, names in stretches]


def shares(columns: EmbeddedColumns) -> TypeGuard[CandidateColumns]:
    """Whether some columns are the same for all candidates of a request."""
    return isinstance(columns, CandidateColumns) and bool(columns.once)


def through(layers: keras.Sequential, columns: EmbeddedColumns) -> tf.Tensor:
    """`layers(columns.flat())`, with what candidates share computed once.

    Where the first layer is another one than a Dense, nothing is shared.

    Args:
      layers: such as `dense_stack` makes; built, where there are candidates.
      columns: float [batch, dim] each.

    Returns:
      float [batch, units of the last layer].
    """
    first, *others = layers.layers or [None]
    # A subclass may compute something else.
    if type(first) is not keras.layers.Dense or not shares(columns):
        return layers(columns.flat())
    hidden = columns.times(tf.cast(first.kernel, first.compute_dtype))
    if first.use_bias:
        hidden += tf.cast(first.bias, hidden.dtype)
    hidden = first.activation(hidden)
    for layer in others:
        hidden = layer(hidden)
    return hidden
