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
        crossed = None
        for layer in self.cross:
            crossed = _crossed(layer, columns, flat, crossed)
        return tf.concat([crossed, through(self.deep, columns)], axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "num_cross_layers": self.num_cross_layers,
            "projection_dim": self.projection_dim,
            "units": self.units,
        }


def _crossed(
    layer: tfrs.layers.dcn.Cross,
    columns: EmbeddedColumns,
    flat: tf.Tensor,
    crossed: tf.Tensor | None,
) -> tf.Tensor:
    """`layer(flat, crossed)`, in the compute dtype throughout.

    The layer itself would multiply in the dtype of its weights, float32 under mixed precision too.

    Args:
      layer: which.
      columns: of which `flat` is made.
      flat: all features side by side, [batch, width].
      crossed: what the layer before has made; None before the first, which takes `flat`. What
        candidates share of that is computed once.
    """
    is_first = crossed is None
    crossed = flat if is_first else crossed
    if type(layer) is not tfrs.layers.dcn.Cross:  # a subclass may compute something else
        return layer(flat, crossed)
    if not layer.built:
        layer(flat, crossed)
    kernel, *kernels, bias = (tf.cast(weight, flat.dtype) for weight in layer.weights)
    product = columns.times(kernel) if is_first and shares(columns) else crossed @ kernel
    for kernel in kernels:  # of a projection
        product @= kernel
    if is_first:  # x * (W x + b) + x, in one pass less
        return flat * tf.nn.bias_add(product, bias + 1.0)
    return flat * tf.nn.bias_add(product, bias) + crossed
