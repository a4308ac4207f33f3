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

import tensorflow as tf
import tf_keras as keras

from clsd_tf.embeddings import EmbeddedColumns, FusedEmbedding
from clsd_tf.features import ModelFeature


class CandidateFeatures(dict[str, tf.Tensor]):
    """Features of all candidates, `[requests * candidates, ...]`, as a backbone is given them.

    Of what lies in here, a graph keeps what is used.

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
        self.once, self.own = dict(once), dict(own)
        self.requests, self.count = requests, count
        super().__init__({**{name: self.repeat(once[name]) for name in once}, **own})

    def repeat(self, values: tf.Tensor) -> tf.Tensor:
        """[requests, ...] -> [requests * candidates, ...]."""
        return tf.gather(values, tf.repeat(tf.range(self.requests), self.count))

    def only(self, names: Sequence[str]) -> CandidateFeatures:
        """Some of the features."""
        once, own = ({n: part[n] for n in names if n in part} for part in (self.once, self.own))
        return CandidateFeatures(once, own, self.requests, self.count)

    def embedded(self, embedding: FusedEmbedding) -> CandidateColumns:
        """Their embeddings."""
        once, own = (embedding(part, names=tuple(part)) for part in (self.once, self.own))
        return CandidateColumns(once, own, self)


class CandidateColumns(EmbeddedColumns):
    """Columns of candidates, of which some are the same for all candidates of a request.

    A copy that Keras makes holds all columns of all candidates, and nothing is shared.

    Args:
      once: the shared ones, float [requests, ...]; of the columns they are repeated.
      own: the others, float [requests * candidates, ...].
      features: that the columns are made of.
      names: their order; the shared ones first by default.
    """

    def __init__(
        self,
        once: EmbeddedColumns | None = None,
        own: EmbeddedColumns | None = None,
        features: CandidateFeatures | None = None,
        names: Sequence[str] | None = None,
    ):
        """See the class."""
        self.once, self.own = once or EmbeddedColumns(), own or EmbeddedColumns()
        self.features = features
        repeated = {name: features.repeat(values) for name, values in self.once.items()}
        columns = {**repeated, **self.own}
        runs = {run: features.repeat(values) for run, values in self.once.runs.items()}
        super().__init__(
            {name: columns[name] for name in names or columns}, runs=runs | self.own.runs
        )

    def replaced(self, vectors: Mapping[str, tf.Tensor]) -> CandidateColumns:
        """See the base class; the other vectors are of candidates."""
        once, own = self.once.without(vectors), self.own.replaced(vectors)
        return CandidateColumns(once, own, self.features, tuple({**self, **vectors}))

    def pooled(self, inputs: Mapping[str, tf.Tensor]) -> CandidateColumns:
        """See the base class; a list that is shared is averaged once."""
        once, own = self.once.pooled(self.features.once), self.own.pooled(inputs)
        return CandidateColumns(once, own, self.features, tuple(self))

    def with_numbers(
        self, inputs: Mapping[str, tf.Tensor], features: Sequence[ModelFeature], dtype: tf.DType
    ) -> CandidateColumns:
        """See the base class."""
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
        """`flat() @ kernel`: float [requests * candidates, units]. All columns are [rows, dim]."""
        once, own, rows, start = [], [], [], 0
        for names, is_shared in self._stretches():
            width = sum(self[name].shape[1] for name in names)
            if is_shared:
                once += [self.once[name] for name in names]
            else:
                # Zeros, so that the kernel is taken as it is.
                once.append(tf.zeros([self.features.requests, width], kernel.dtype))
                own += [self[name] for name in names]
                rows.append(kernel[start : start + width])
            start += width
        shared = tf.concat(once, axis=1) @ kernel
        if not own:
            return self.features.repeat(shared)
        product = tf.concat(own, axis=1) @ tf.concat(rows, axis=0)
        by_request = [self.features.requests, self.features.count, kernel.shape[1]]
        product = tf.reshape(product, by_request) + shared[:, tf.newaxis]
        return tf.reshape(product, [by_request[0] * by_request[1], by_request[2]])

    def _stretches(self) -> list[tuple[list[str], bool]]:
        """Names of consecutive columns, and whether they are shared."""
        stretches = itertools.groupby(self, lambda name: name in self.once)
        return [(list(names), is_shared) for is_shared, names in stretches]


def through(layers: keras.Sequential, columns: EmbeddedColumns) -> tf.Tensor:
    """`layers(columns.flat())`, with what candidates share computed once.

    Args:
      layers: Dense layers, such as `dense_stack` makes.
      columns: float [batch, dim] each.

    Returns:
      float [batch, units of the last layer].
    """
    if not (isinstance(columns, CandidateColumns) and columns.once and layers.layers):
        return layers(columns.flat())
    first, *others = layers.layers
    hidden = columns.times(tf.cast(first.kernel, first.compute_dtype))
    hidden = first.activation(hidden + tf.cast(first.bias, hidden.dtype))
    for layer in others:
        hidden = layer(hidden)
    return hidden
