"""The group-conditioned head of a confidence function: a teacher's logit calibrated per group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

# sigmoid(-80) = 2e-35 is well inside the range of float32: confidence stays above 0.
_MIN_LOGIT = -80.0
# A slope below would make confidence fall with the score.
_MIN_SCALE = 1e-3


@keras.saving.register_keras_serializable(package="clsd_tf")
class GroupConfidenceHead(keras.layers.Layer):
    """sigmoid(a_g * z + b_g) with a slope a_g = softplus(.) > 0 and an offset b_g per group.

    Starts as the plain sigmoid: a_g = 1, b_g = 0.

    Args:
      num_groups: number of groups.

    Input shape: logits float [batch], group int [batch]. Output shape: float32 [batch].
    """

    def __init__(self, num_groups: int, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_groups = num_groups
        # `trainable` is passed on: a fitted head stays out of training, even where `trainable` of
        # the model around it is switched on.
        options = {"shape": (num_groups,), "trainable": self.trainable}
        identity = keras.initializers.Constant(_inverse_softplus(1.0))
        self.raw_scale = self.add_weight(name="raw_scale", initializer=identity, **options)
        self.bias = self.add_weight(name="bias", initializer="zeros", **options)
        self.built = True

    @property
    def scale(self) -> tf.Tensor:
        """a_g: float32 [num_groups]."""
        return tf.nn.softplus(self.raw_scale)

    def assign(self, scale: np.ndarray | float, bias: np.ndarray | float) -> None:
        """Sets the parameters: floats, or arrays [num_groups]; scale > 0."""
        # float32, because a table that is sharded over parameter servers does not convert.
        for variable, values in ((self.raw_scale, _inverse_softplus(scale)), (self.bias, bias)):
            variable.assign(np.broadcast_to(values, (self.num_groups,)).astype(np.float32))

    def call(self, logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Returns the confidence, [batch]."""
        return positive_sigmoid(self.logits(logits, group))

    def logits(self, logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Returns a_g * z + b_g, [batch]."""
        # softplus after gather: two heads with equal parameters then compute bit by bit the same,
        # however many groups each has.
        scale = tf.nn.softplus(tf.gather(self.raw_scale, group))
        return scale * logits + tf.gather(self.bias, group)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "num_groups": self.num_groups}


def assign_heads(heads: Sequence[tf.Variable], pooled: tf.Tensor, local: tf.Tensor) -> None:
    """Sets `raw_scale` and `bias` of a pooled and a local head to slopes and offsets [n, 2]."""
    for raw_scale, bias, parameters in zip(heads[::2], heads[1::2], (pooled, local), strict=True):
        scale = tf.maximum(parameters[:, 0], _MIN_SCALE)
        # The inverse of softplus, log(exp(a) - 1) = a + log(1 - exp(-a)), does not overflow.
        raw_scale.assign(scale + tf.math.log(-tf.math.expm1(-scale)))
        bias.assign(parameters[:, 1])


def positive_sigmoid(logits: tf.Tensor) -> tf.Tensor:
    """sigmoid(logits), which does not underflow to 0."""
    return tf.sigmoid(tf.maximum(logits, _MIN_LOGIT))


def _inverse_softplus(values: np.ndarray | float) -> np.ndarray:
    # log(exp(v) - 1) = v + log(1 - exp(-v)), which does not overflow.
    return values + np.log(-np.expm1(-values))
