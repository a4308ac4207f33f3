"""Deep Interest Network: attention of the shown item over the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, item_and_histories
from clsd_tf.candidates import through
from clsd_tf.columns import EmbeddedColumns
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import ListAttention


@register_backbone("din")
@keras.saving.register_keras_serializable(package="clsd_tf")
class DIN(Backbone):
    """Weighs each item of a history by its relevance to the shown one.

    Source: arXiv 1706.06978, section 4.3.

    Lists that share the item's vocabulary are histories; other lists are averaged. Attention
    weights are not normalised, so that their sum keeps the intensity of the interest.

    Args:
      features: see `Backbone`; the item and at least one history are among them.
      units: widths of the hidden layers. Defaults to (256, 128).
      attention_units: widths of the layers that score a pair of items. Defaults to (36,).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        attention_units: Sequence[int] = (36,),
        name: str = "din",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        self.item, self.histories = item_and_histories(self.features, "din")
        self.units = tuple(units)
        self.attention_units = tuple(attention_units)
        self.attention = {
            name: ListAttention(self.attention_units, name=f"attention_{name}")
            for name in self.histories
        }
        self.hidden = dense_stack(self.units, name="hidden")

    def represent(self, inputs: Mapping[str, tf.Tensor], embedded: EmbeddedColumns) -> tf.Tensor:
        """See the base class."""
        item = embedded.column(self.item)
        interests = {
            name: attend((item, embedded[name]), inputs[name])
            for name, attend in self.attention.items()
        }
        vectors = self.pool(inputs, embedded.replaced(interests))
        return through(self.hidden, self.columns(inputs, vectors))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "units": self.units,
            "attention_units": self.attention_units,
        }
