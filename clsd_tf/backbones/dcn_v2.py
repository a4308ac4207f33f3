"""Deep & Cross Network V2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack
from clsd_tf.candidates import shares, through
from clsd_tf.columns import EmbeddedColumns
from clsd_tf.compat import use_keras_2
from clsd_tf.features import ModelFeature

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402


@register_backbone("dcn_v2")
@keras.saving.register_keras_serializable(package="clsd_tf")
class DCNv2(Backbone):
    """Cross layers and dense layers in parallel (arXiv 2008.13535, section 3).

    Args:
      features: see `Backbone`.
      num_cross_layers: explicit interactions of up to one more than this order. Defaults to 2.
      projection_dim: rank of the cross layers' kernels. Defaults to None, full rank.
      units: widths of the dense layers. Defaults to (256, 128).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        num_cross_layers: int = 2,
        projection_dim: int | None = None,
        units: Sequence[int] = (256, 128),
        name: str = "dcn_v2",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        if num_cross_layers < 1:
            raise ValueError(
                "`num_cross_layers` must be at least 1. Received: "
                f"num_cross_layers={num_cross_layers}. The backbone `mlp` has none."
            )
        self.num_cross_layers = num_cross_layers
        self.projection_dim = projection_dim
        self.units = tuple(units)
        self.cross = [
            tfrs.layers.dcn.Cross(projection_dim=projection_dim, name=f"cross_{i}")
            for i in range(num_cross_layers)
        ]
        self.deep = dense_stack(self.units, name="deep")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        columns = self.columns(inputs, self.pool(inputs, embedded))
        flat = columns.flat()
        first, *others = self.cross
        crossed = _cross_first(first, columns, flat)
        for layer in others:
            crossed = layer(flat, crossed)
        return tf.concat([crossed, through(self.deep, columns)], axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "num_cross_layers": self.num_cross_layers,
            "projection_dim": self.projection_dim,
            "units": self.units,
        }


def _cross_first(
    layer: tfrs.layers.dcn.Cross, columns: EmbeddedColumns, flat: tf.Tensor
) -> tf.Tensor:
    """`layer(flat, flat)`, with what candidates share computed once."""
    if type(layer) is not tfrs.layers.dcn.Cross:  # a subclass may compute something else
        return layer(flat, flat)
    if not layer.built:
        layer(flat, flat)
    *matrices, bias = (tf.convert_to_tensor(weight) for weight in layer.weights)
    product = columns.times(matrices[0]) if shares(columns) else flat @ matrices[0]
    for matrix in matrices[1:]:  # of a projection
        product @= matrix
    # x * (W x + b) + x, in one pass less
    return flat * tf.cast(tf.nn.bias_add(product, bias + 1.0), flat.dtype)
