"""Behavior Sequence Transformer: self-attention over the history and the shown item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, item_and_histories
from clsd_tf.embeddings import mean_pool
from clsd_tf.features import ModelFeature


@register_backbone("bst")
@keras.saving.register_keras_serializable(package="clsd_tf")
class BST(Backbone):
    """One transformer block for each history, with the shown item as its last element.

        s_t = item embedding + position embedding
        s' = LayerNorm(s + MultiHead(s));   f = LayerNorm(s' + W2 leaky_relu(W1 s'))

    Source: arXiv 1905.06874, section 2.2. This project's reading: a position is the number of
    clicks from an element to the shown item, where the paper has the time, which ids do not tell;
    and the dense layers are given f at the shown item and the mean of f, where the paper gives them
    f at every position, which costs a kernel as long as the history.

    Lists that share the item's vocabulary are histories; other lists are averaged. Padding may
    stand anywhere in a list and changes nothing.

    Args:
      features: see `Backbone`; the item and at least one history are among them.
      units: widths of the hidden layers. Defaults to (256, 128).
      num_heads: of the attention; has to divide the item's embedding dimension. Defaults to 2.
      expansion: width of W1 as a multiple of the embedding's. Defaults to 2.
    """

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        num_heads: int = 2,
        expansion: int = 2,
        name: str = "bst",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        self.item, self.histories = item_and_histories(self.features, "bst")
        self.units = tuple(units)
        self.num_heads = num_heads
        self.expansion = expansion
        lengths = {f.name: f.length for f in self.features}
        self.blocks = {
            name: HistoryTransformer(lengths[name], num_heads, expansion, name=f"block_{name}")
            for name in self.histories
        }
        self.hidden = dense_stack(self.units, name="hidden")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        item = embedded[self.item]
        read = {
            name: self.blocks[name]((embedded[name], item), inputs[name]) for name in self.histories
        }
        return self.hidden(self.flatten(inputs, self.pool(inputs, {**embedded, **read})))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "expansion": self.expansion,
        }


@keras.saving.register_keras_serializable(package="clsd_tf")
class HistoryTransformer(keras.layers.Layer):
    """The transformer block of `BST`.

    Args:
      length: of the history.
      num_heads: see `BST`. Defaults to 2.
      expansion: see `BST`. Defaults to 2.

    Input: (history float [batch, length, dim], item float [batch, dim]), and the history's ids, int
      [batch, length], 0 for padding.
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
        dim = input_shape[1][-1]
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the dimension of the item's embedding. Received: "
                f"num_heads={self.num_heads}, dimension {dim}."
            )
        self.positions = self.add_weight(
            name="positions", shape=(self.length + 1, dim), initializer="uniform"
        )
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, use_bias=False
        )
        # Embeddings start with a variance of 1e-3, which the default epsilon would drown.
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.feed_forward = keras.Sequential(
            [
                keras.layers.Dense(self.expansion * dim, activation=tf.nn.leaky_relu),
                keras.layers.Dense(dim),
            ]
        )
        self.output_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        super().build(input_shape)

    def call(self, vectors: Sequence[tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        """See the class."""
        history, item = vectors
        present = tf.cast(ids > 0, tf.int32)
        shown = tf.ones_like(present[:, :1])
        present = tf.concat([present, shown], axis=1)
        # Clicks from here to the shown item, which has 0 itself. Padding has any, and no say.
        recency = tf.cumsum(present, axis=1, reverse=True) - 1
        sequence = tf.concat([history, item[:, tf.newaxis]], axis=1)
        sequence += tf.gather(self.positions, recency)
        mask = tf.cast(present, tf.bool)[:, tf.newaxis]
        attended = self.attention(sequence, sequence, attention_mask=mask)
        sequence = self.attention_norm(sequence + attended)
        sequence = self.output_norm(sequence + self.feed_forward(sequence))
        return tf.concat([sequence[:, -1], mean_pool(sequence, present)], axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "length": self.length,
            "num_heads": self.num_heads,
            "expansion": self.expansion,
        }
