"""Vectors of features, one a field, and layers that let them interact."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.columns import EmbeddedColumns
from clsd_tf.distributed import is_on_cpu
from clsd_tf.embeddings import as_features
from clsd_tf.features import ModelFeature
from clsd_tf.table_rows import ones_at, sparse_product


@keras.saving.register_keras_serializable(package="clsd_tf")
class FieldVectors(keras.layers.Layer):
    """Gives every feature one vector of the same width.

    An embedding of that width is taken as it is, one of another width is projected by a matrix, and
    a number x becomes x * v with a learned v (arXiv 1810.11921, section 4.3).

    Args:
      features: the model's features.
      dim: the width; None for the one that most embeddings have.

    Input: a mapping name -> float [batch, width of the feature], numbers [batch, 1].
    Output: float [batch, fields, dim], in the order of the features.
    """

    def __init__(self, features: Sequence[ModelFeature], dim: int | None = None, **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.features = as_features(features)
        widths = collections.Counter(f.dim for f in self.features if f.kind == "categorical")
        self.dim = dim or (widths.most_common(1)[0][0] if widths else 16)
        self._projections: dict[str, tf.Variable] = {}

    def build(self, input_shape: object) -> None:
        """Creates projections where they are needed."""
        for i, feature in enumerate(self.features):
            numeric = feature.kind == "numeric"
            if numeric or feature.dim != self.dim:
                self._projections[feature.name] = self.add_weight(
                    name=f"projection_{i}",
                    shape=(1 if numeric else feature.dim, self.dim),
                    # A number's vector starts as small as embeddings do.
                    initializer="uniform" if numeric else "glorot_uniform",
                )
        super().build(input_shape)

    def call(
        self,
        columns: Mapping[str, tf.Tensor],
        runs: Mapping[tuple[str, ...], tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """See the class; `runs` are those of the columns, which save putting them together.

        They are an argument of their own, since Keras copies a mapping without them.
        """
        own = {feature.name: columns[feature.name] for feature in self.features}
        projected = {name: own[name] @ matrix for name, matrix in self._projections.items()}
        parts = EmbeddedColumns(own, runs=runs).replaced(projected).parts()
        vectors = [tf.reshape(part, [-1, len(names), self.dim]) for names, part in parts]
        return tf.concat(vectors, axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        features = [feature.get_config() for feature in self.features]
        return {**super().get_config(), "features": features, "dim": self.dim}


def pairwise_sum(vectors: tf.Tensor) -> tf.Tensor:
    """Sum over all pairs of fields of their dot products: the factorization machine.

        sum_{i<j} <v_i, v_j> = 1/2 * sum_d [(sum_i v_id)^2 - sum_i v_id^2]

    It is computed in float32 whatever the input is: where fields are many, the two sums are close
    to each other, and few digits would be left of their difference.

    Source: arXiv 1703.04247, equation 2.

    Args:
      vectors: float [batch, fields, dim].

    Returns:
      float32 [batch, 1].
    """
    vectors = tf.cast(vectors, tf.float32)
    square_of_sum = tf.reduce_sum(tf.square(tf.reduce_sum(vectors, axis=1)), axis=1)
    sum_of_squares = tf.reduce_sum(tf.square(vectors), axis=[1, 2])
    return 0.5 * (square_of_sum - sum_of_squares)[:, tf.newaxis]


@keras.saving.register_keras_serializable(package="clsd_tf")
class FieldAttention(keras.layers.Layer):
    """Multi-head self-attention of fields, with a residual.

        a_mk = softmax over k of <W_query e_m, W_key e_k>
        output_m = relu(heads side by side of sum_k a_mk W_value e_k + W_residual e_m)

    Source: arXiv 1810.11921, equations 5 to 8. Scores are not scaled, as there.

    Args:
      num_heads: kinds of interaction. Defaults to 2.
      head_dim: width of each. Defaults to 16.

    Input: float [batch, fields, dim].
    Output: float [batch, fields, num_heads * head_dim].
    """

    def __init__(self, num_heads: int = 2, head_dim: int = 16, **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        width = num_heads * head_dim
        self.query = keras.layers.Dense(width, use_bias=False, name="query")
        self.key = keras.layers.Dense(width, use_bias=False, name="key")
        self.value = keras.layers.Dense(width, use_bias=False, name="value")
        self.residual = keras.layers.Dense(width, use_bias=False, name="residual")

    def call(self, fields: tf.Tensor) -> tf.Tensor:
        """See the class."""
        num_fields = fields.shape[1]

        def split(vectors: tf.Tensor) -> tf.Tensor:
            """[batch, fields, heads * head_dim] -> [batch, heads, fields, head_dim]."""
            shape = [-1, num_fields, self.num_heads, self.head_dim]
            return tf.transpose(tf.reshape(vectors, shape), [0, 2, 1, 3])

        query, key, value = (split(layer(fields)) for layer in (self.query, self.key, self.value))
        attention = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        attended = tf.transpose(tf.matmul(attention, value), [0, 2, 1, 3])
        shape = [-1, num_fields, self.num_heads * self.head_dim]
        return tf.nn.relu(tf.reshape(attended, shape) + self.residual(fields))

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "num_heads": self.num_heads, "head_dim": self.head_dim}


@keras.saving.register_keras_serializable(package="clsd_tf")
class BilinearFusion(keras.layers.Layer):
    """Bilinear form of two vectors, in heads: sum_h a_h^T W_h b_h.

    Each head sees its own part of either vector: the parameters are `num_heads` times fewer.

    Source: arXiv 2304.00902, equations 9 to 11, without the linear terms.

    Args:
      num_heads: has to divide both widths. Defaults to 1.

    Input: two float tensors, [batch, width] and [batch, other width].
    Output: float [batch, 1].
    """

    def __init__(self, num_heads: int = 1, **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        """Creates the matrices."""
        widths = [shape[-1] for shape in input_shape]
        if any(width % self.num_heads for width in widths):
            raise ValueError(
                "`num_heads` must divide the widths of both streams. Received: "
                f"num_heads={self.num_heads}, widths {widths[0]} and {widths[1]}."
            )
        parts = [width // self.num_heads for width in widths]
        self.kernel = self.add_weight(name="kernel", shape=(self.num_heads, *parts))
        super().build(input_shape)

    def call(self, vectors: Sequence[tf.Tensor]) -> tf.Tensor:
        """See the class."""
        one, other = (
            tf.reshape(vector, [-1, self.num_heads, vector.shape[-1] // self.num_heads])
            for vector in vectors
        )
        mapped = tf.einsum("bhi,hij->bhj", one, self.kernel)
        return tf.reduce_sum(mapped * other, axis=[1, 2])[:, tf.newaxis]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable(package="clsd_tf")
class ListAttention(keras.layers.Layer):
    """Sum of a list's vectors, each weighed by how relevant it is to a query.

        hidden = relu([q, k, q - k, q * k] W + b),   then further layers, the last of width 1

    Source: arXiv 1706.06978, section 4.3. Pairs are not put together: by rows of W, the first layer
    is q (W_1 + W_3) + k (W_2 - W_3) + (q * k) W_4. For a whole list that is one matrix, the same
    for all of its k; in training on a CPU, where more than half of a batch's lists is padding,
    the pairs are scored one by one, and padding costs nothing.

    Args:
      units: widths of the hidden layers.

    Input: query [batch, dim] and keys [batch, length, dim], float; and as `ids` int
    [batch, length], 0 for padding.
    Output: float [batch, dim].
    """

    def __init__(self, units: Sequence[int], **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.units = tuple(units)
        layers = [keras.layers.Dense(width, activation="relu") for width in self.units[1:]]
        if self.units:
            layers.append(keras.layers.Dense(1))
        self.others = layers

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        """Creates the first layer's weights, of a pair's four parts side by side."""
        width = self.units[0] if self.units else 1
        self.kernel = self.add_weight(
            name="kernel", shape=(4 * input_shape[0][-1], width), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        super().build(input_shape)

    def call(
        self, pair: tuple[tf.Tensor, tf.Tensor], ids: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor:
        """See the class."""
        query, keys = pair
        # Other engines than TensorFlow, which run exports, know no such products; elsewhere
        # shapes that differ from batch to batch cost more than padding.
        if training is not True or not is_on_cpu():
            return self._of_lists(query, keys, ids)
        return tf.cond(
            2 * tf.math.count_nonzero(ids) < tf.size(ids, tf.int64),
            lambda: self._of_pairs(query, keys, ids),
            lambda: self._of_lists(query, keys, ids),
        )

    def _of_lists(self, query: tf.Tensor, keys: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        of_query, of_key, of_difference, of_product = tf.split(self.kernel, 4)
        once = query @ (of_query + of_difference) + self.bias
        of_list = of_key - of_difference + query[:, :, tf.newaxis] * of_product
        hidden = once[:, tf.newaxis] + keys @ of_list
        # One matrix product for all pairs is faster than one for each list.
        relevance = self._relevance(tf.reshape(hidden, [-1, hidden.shape[2]]))
        relevance = tf.reshape(relevance, tf.concat([tf.shape(ids), [1]], axis=0))
        relevance *= tf.cast(ids > 0, relevance.dtype)[:, :, tf.newaxis]
        return tf.matmul(relevance, keys, transpose_a=True)[:, 0]

    def _of_pairs(self, query: tf.Tensor, keys: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        # By products alone: gradients of one's own, within a condition, do not outlive `save`.
        batch, length = tf.unstack(tf.shape(ids, tf.int64))
        places = tf.where(tf.reshape(ids > 0, [-1]))[:, 0]
        keys = tf.reshape(keys, [-1, keys.shape[2]])
        keys = sparse_product(ones_at(places, batch * length), keys)
        of_pairs = ones_at(places // length, batch)
        query = sparse_product(of_pairs, query)
        of_query, of_key, of_difference, of_product = tf.split(self.kernel, 4)
        hidden = query @ (of_query + of_difference) + keys @ (of_key - of_difference)
        hidden += (query * keys) @ of_product + self.bias
        return sparse_product(of_pairs, self._relevance(hidden) * keys, transpose=True)

    def _relevance(self, hidden: tf.Tensor) -> tf.Tensor:
        """[pairs, width of the first layer], before its activation -> [pairs, 1]."""
        if not self.others:
            return hidden
        hidden = tf.nn.relu(hidden)
        for layer in self.others:
            hidden = layer(hidden)
        return hidden

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "units": self.units}
