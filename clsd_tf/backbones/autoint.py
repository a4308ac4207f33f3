"""AutoInt: self-attention finds which features to combine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, side_by_side
from clsd_tf.candidates import through
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import FieldAttention, FieldVectors


@register_backbone("autoint")
@keras.saving.register_keras_serializable(package="clsd_tf")
class AutoInt(Backbone):
    """Layers of attention between features, and dense layers beside them (arXiv 1810.11921).

        e^0 = vectors of the features;   e^{l+1} = FieldAttention(e^l)
        logit = <w, [e^L of all features]> + <w_deep, h> + b

    with h the last hidden layer: what the paper calls AutoInt+. `units=()` leaves it out.

    Args:
      features: see `Backbone`.
      num_layers: interactions of up to 2^num_layers features. Defaults to 2.
      num_heads: see `FieldAttention`. Defaults to 2.
      head_dim: see `FieldAttention`. Defaults to 16.
      units: widths of the dense layers beside the attention. Defaults to (256, 128).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        num_layers: int = 2,
        num_heads: int = 2,
        head_dim: int = 16,
        units: Sequence[int] = (256, 128),
        name: str = "autoint",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.units = tuple(units)
        self.fields = FieldVectors(self.features, name="fields")
        self.attention = [
            FieldAttention(num_heads, head_dim, name=f"attention_{i}") for i in range(num_layers)
        ]
        self.deep = dense_stack(self.units, name="deep") if self.units else None

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        columns = self.columns(inputs, self.pool(inputs, embedded))
        fields = self.fields(columns, columns.runs)
        for layer in self.attention:
            fields = layer(fields)
        combined = tf.reshape(fields, [-1, fields.shape[1] * fields.shape[2]])
        if self.deep is None:
            return combined
        return side_by_side(combined, through(self.deep, columns))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "num_layers": len(self.attention),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "units": self.units,
        }
