"""The embedding-and-MLP baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack
from clsd_tf.candidates import through
from clsd_tf.features import ModelFeature


@register_backbone("mlp")
@keras.saving.register_keras_serializable(package="clsd_tf")
class MLP(Backbone):
    """All features side by side through dense layers.

    Args:
      features: see `Backbone`.
      units: widths of the hidden layers. Defaults to (256, 128).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        name: str = "mlp",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        self.units = tuple(units)
        self.hidden = dense_stack(self.units, name="hidden")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        return through(self.hidden, self.columns(inputs, self.pool(inputs, embedded)))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {**super().get_config(), "units": self.units}
