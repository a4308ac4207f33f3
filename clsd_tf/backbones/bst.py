"""Behavior Sequence Transformer: self-attention over the history and the shown item."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, item_and_histories
from clsd_tf.columns import EmbeddedColumns, mean_pool
from clsd_tf.embeddings import as_features
from clsd_tf.features import ModelFeature


@register_backbone("bst")
@keras.saving.register_keras_serializable(package="clsd_tf")
class BST(Backbone):
    """One transformer block for each history, of which the shown item is an element.

        s_t = item embedding + position embedding
        s' = LayerNorm(s + MultiHead(s));   f = LayerNorm(s' + W2 leaky_relu(W1 s'))

    Source: arXiv 1905.06874, section 2.2. This project's reading: a position is the number of
    clicks from an element to the shown item, where the paper has the time, which ids do not tell;
    and the dense layers are given f at the shown item and the mean of f, where the paper gives them
    f at every position, which costs a kernel as long as the history. Attention costs the square of
    the length: like the paper's, histories are cut to the last 20 clicks.

    Lists that share the item's vocabulary are histories; other lists are averaged. Padding may
    stand anywhere in a list and changes nothing.

    Args:
      features: see `Backbone`; the item and at least one history are among them.
      units: widths of the hidden layers. Defaults to (256, 128).
      num_heads: of the attention; has to divide the item's embedding dimension. Defaults to 2.
      expansion: width of W1 as a multiple of the embedding's. Defaults to 2.
      max_history: clicks of a history that are read, the last ones. Defaults to 20.
    """

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        num_heads: int = 2,
        expansion: int = 2,
        max_history: int = 20,
        name: str = "bst",
        **kwargs,
    ):
        """See the class."""
        if max_history < 1:
            raise ValueError(f"`max_history` must be >= 1. Received: max_history={max_history}.")
        features = as_features(features)
        item, histories = item_and_histories(features, "bst")
        # The embedding reads no more elements than are used.
        read = [
            dataclasses.replace(feature, length=min(feature.length, max_history))
            if feature.name in histories
            else feature
            for feature in features
        ]
        super().__init__(read, name=name, **kwargs)
        self.max_history = max_history
        self.item = item
        self._given = features
        self.units = tuple(units)
        self.num_heads = num_heads
        self.expansion = expansion
        self.blocks = {
            feature.name: HistoryTransformer(
                feature.length, num_heads, expansion, name=f"block_{feature.name}"
            )
            for feature in self.features
            if feature.name in histories
        }
        self.hidden = dense_stack(self.units, name="hidden")

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See the base class."""
        cut = {
            name: most_recent(inputs[name], block.length)
            for name, block in self.blocks.items()
            if name in inputs
        }
        return super().call({**inputs, **cut})

    def represent(self, inputs: Mapping[str, tf.Tensor], embedded: EmbeddedColumns) -> tf.Tensor:
        """See the base class."""
        item = embedded.column(self.item)
        read = {
            name: block((item, embedded[name]), inputs[name]) for name, block in self.blocks.items()
        }
        return self.hidden(self.flatten(inputs, self.pool(inputs, embedded.replaced(read))))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "features": [feature.get_config() for feature in self._given],
            "units": self.units,
            "num_heads": self.num_heads,
            "expansion": self.expansion,
            "max_history": self.max_history,
        }


def most_recent(ids: tf.Tensor, length: int) -> tf.Tensor:
    """The last elements of lists, wherever padding stands.

    Args:
      ids: int [batch, any length], the oldest first, 0 for padding.
      length: number of elements to keep, at most that of the lists.

    Returns:
      int [batch, length], the most recent first, padding last.
    """
    present = tf.cast(ids > 0, tf.int32)
    age = tf.cumsum(present, axis=1, reverse=True)
    _, places = tf.math.top_k(tf.where(present > 0, -age, -tf.shape(ids)[1] - 1), length)
    return tf.gather(ids, places, batch_dims=1)


@keras.saving.register_keras_serializable(package="clsd_tf")
class HistoryTransformer(keras.layers.Layer):
    """The transformer block of `BST`.

    Args:
      length: of the history.
      num_heads: see `BST`. Defaults to 2.
      expansion: see `BST`. Defaults to 2.

    Input: (item float [batch, dim], history float [batch, length, dim]), the most recent click
      first, and the history's ids, int [batch, length], 0 for padding.
    Output: float [batch, 2 * dim].
    """

    def __init__(self, length: int, num_heads: int = 2, expansion: int = 2, **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.length = length
        self.num_heads = num_heads
        self.expansion = expansion

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        """Creates the layers: their width is that of the embedding."""
        dim = input_shape[0][-1]
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the dimension of the item's embedding. Received: "
                f"num_heads={self.num_heads}, dimension {dim}."
            )
        self.positions = self.add_weight(
            name="positions", shape=(self.length + 1, dim), initializer="uniform"
        )
        # The global policy may be another by now.
        policy = {"dtype": self.dtype_policy}
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, use_bias=False, **policy
        )
        # Its weights exist from here on: those of a first call a SavedModel would not load.
        vectors = tf.zeros([1, self.length + 1, dim], self.compute_dtype)
        self.attention(vectors, vectors)
        # Embeddings start with a variance of 1e-3, which the default epsilon would drown.
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6, **policy)
        self.feed_forward = keras.Sequential(
            [
                keras.layers.Dense(self.expansion * dim, activation=tf.nn.leaky_relu, **policy),
                keras.layers.Dense(dim, **policy),
            ]
        )
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-6, **policy)
        super().build(input_shape)

    def call(self, vectors: Sequence[tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        """See the class."""
        item, history = vectors
        sequence = tf.concat([item[:, tf.newaxis], history], axis=1) + self.positions
        present = tf.concat([tf.ones_like(ids[:, :1]), ids], axis=1)
        mask = (present > 0)[:, tf.newaxis]
        attended = self.attention(sequence, sequence, attention_mask=mask)
        sequence = self.attention_norm(sequence + attended)
        sequence = self.output_norm(sequence + self.feed_forward(sequence))
        return tf.concat([sequence[:, 0], mean_pool(sequence, present)], axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "length": self.length,
            "num_heads": self.num_heads,
            "expansion": self.expansion,
        }
