"""Logistic regression: the model that every other one has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone
from clsd_tf.features import ModelFeature
from clsd_tf.linear import LinearTerm


@register_backbone("logistic")
@keras.saving.register_keras_serializable(package="clsd_tf")
class Logistic(Backbone):
    """One weight for each id and number, no interactions.

        logit = b + s * <w, x>

    The scale s starts at 1 and adds nothing but a place for a calibration. With row-wise Adagrad
    every weight has a step size of its own, as in arXiv 1002.4908.

    Args:
      features: see `Backbone`.
    """

    def __init__(self, features: Sequence[ModelFeature], name: str = "logistic", **kwargs):
        """See the class."""
        super().__init__(features, num_sums=1, embed=False, name=name, **kwargs)
        self.linear = LinearTerm(self.features, name="linear")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        return self.linear(inputs)
