"""DLRM: dot products of all pairs of features, then dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack
from clsd_tf.compat import use_keras_2
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import FieldVectors

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402


@register_backbone("dlrm")
@keras.saving.register_keras_serializable(package="clsd_tf")
class DLRM(Backbone):
    """Numbers become one vector, which meets every embedding (arXiv 1906.00091, section 2).

        d = bottom(numbers);   logit = head(top([d, <v_i, v_j> for all i < j]))

    with v the embeddings and d. Without numbers there is no d.

    Args:
      features: see `Backbone`; at least two are categorical, or one beside a number.
      bottom_units: widths of the layers over the numbers, before the one that is as wide as an
        embedding. Defaults to (64,).
      units: widths of the layers over the dot products. Defaults to (256, 128).
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        bottom_units: Sequence[int] = (64,),
        units: Sequence[int] = (256, 128),
        name: str = "dlrm",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        categorical = [f for f in self.features if f.kind == "categorical"]
        self._numbers = tuple(f.name for f in self.features if f.kind == "numeric")
        if len(categorical) + bool(self._numbers) < 2:
            raise ValueError(
                "`dlrm` needs two vectors to multiply. Received: "
                f"{', '.join(f.name for f in self.features)}. Expected: two categorical features, "
                "or one and a number. The backbone `mlp` takes any features."
            )
        self.bottom_units = tuple(bottom_units)
        self.units = tuple(units)
        self.fields = FieldVectors(categorical, name="fields")
        if self._numbers:
            self.bottom = dense_stack([*self.bottom_units, self.fields.dim], name="bottom")
        # Zeros in the place of one half of the symmetric matrix: gathering the other is slower.
        self.interaction = tfrs.layers.feature_interaction.DotInteraction(
            skip_gather=True, name="interaction"
        )
        self.top = dense_stack(self.units, name="top")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        columns = self.columns(inputs, self.pool(inputs, embedded))
        vectors = tf.unstack(self.fields(columns, columns.runs), axis=1)
        if not self._numbers:
            return self.top(self.interaction(vectors))
        dense = self.bottom(tf.concat([columns[name] for name in self._numbers], axis=1))
        return self.top(tf.concat([dense, self.interaction([dense, *vectors])], axis=1))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {**super().get_config(), "bottom_units": self.bottom_units, "units": self.units}
