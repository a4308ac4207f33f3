"""DeepFM: a factorization machine and dense layers over the same embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, side_by_side
from clsd_tf.candidates import through
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import FieldVectors, pairwise_sum
from clsd_tf.linear import LinearTerm


@register_backbone("deepfm")
@keras.saving.register_keras_serializable(package="clsd_tf")
class DeepFM(Backbone):
    """All interactions of two features beside dense layers (arXiv 1703.04247, equations 1 to 4).

        logit = <w, x> + sum_{i<j} <v_i, v_j> x_i x_j + <w_deep, h> + b

    with h the last hidden layer. Lists count with their mean vector.

    Args:
      features: see `Backbone`.
      units: widths of the dense layers. Defaults to (256, 128).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        name: str = "deepfm",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, num_sums=2, name=name, **kwargs)
        self.units = tuple(units)
        self.linear = LinearTerm(self.features, name="linear")
        self.fields = FieldVectors(self.features, name="fields")
        self.deep = dense_stack(self.units, name="deep")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        columns = self.columns(inputs, self.pool(inputs, embedded))
        deep = through(self.deep, columns)
        return side_by_side(
            self.linear(inputs), pairwise_sum(self.fields(columns, columns.runs)), deep
        )

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {**super().get_config(), "units": self.units}
