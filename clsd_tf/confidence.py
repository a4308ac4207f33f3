"""The confidence functions: `global`, one for all groups, and `affine`, calibrated per group.

Source: arXiv 2309.16322 (abstract) fixes that global confidence comes from self-distillation and
is adapted per user group; the formulas are this project's reading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.confidence_base import (
    CONFIDENCE_FUNCTIONS,
    ConfidenceFunction,
    combine,
    get_confidence,
    register_confidence,
)
from clsd_tf.running_moments import RunningClickMoments

__all__ = [
    "CONFIDENCE_FUNCTIONS",
    "AffineConfidence",
    "ConfidenceFunction",
    "GlobalConfidence",
    "GroupConfidenceHead",
    "RunningClickMoments",
    "combine",
    "get_confidence",
    "register_confidence",
]

# sigmoid(-80) = 2e-35 is well inside the range of float32: confidence stays above 0.
_MIN_LOGIT = -80.0


@register_confidence("global")
@keras.saving.register_keras_serializable(package="clsd_tf")
class GlobalConfidence(ConfidenceFunction):
    """The teacher's logit, standardised over clicks: sigmoid(sharpness * (z - mean) / deviation).

    Ranks clicks by how likely the teacher found them. Its level is arbitrary: the average click has
    a confidence of about 0.5. Pooled and local are the same. While there were no clicks yet, or all
    had the same logit, every confidence is 0.5.

    Args:
      sharpness: > 0. Defaults to 1; larger values tell clicks apart more sharply.
      decay: memory of mean and deviation, see `RunningClickMoments`. Defaults to 0.99.
    """

    def __init__(self, sharpness: float = 1.0, decay: float = 0.99, **kwargs):
        if not sharpness > 0.0:
            raise ValueError(
                f"`sharpness` must be > 0. Received: sharpness={sharpness}. "
                "Confidence would not rise with the teacher's score."
            )
        super().__init__(**kwargs)
        self.sharpness = sharpness
        self.moments = RunningClickMoments(decay, name="moments")

    def update(self, teacher_logits: tf.Tensor, labels: tf.Tensor, group: tf.Tensor) -> None:
        """See the base class."""
        self.moments.update(teacher_logits, labels)

    def call(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        confidence = _positive_sigmoid(self.sharpness * self.moments(teacher_logits))
        return confidence, confidence

    def table(self, group_names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
        """See the base class."""
        return [
            {
                "group": "all",
                "mean": float(self.moments.mean),
                "standard_deviation": float(self.moments.standard_deviation),
                "sharpness": self.sharpness,
            }
        ]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "sharpness": self.sharpness,
            "decay": self.moments.decay,
        }


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
        # softplus after gather: two heads with equal parameters then compute bit by bit the same,
        # however many groups each has.
        scale = tf.nn.softplus(tf.gather(self.raw_scale, group))
        return _positive_sigmoid(scale * logits + tf.gather(self.bias, group))

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "num_groups": self.num_groups}


@register_confidence("affine")
@keras.saving.register_keras_serializable(package="clsd_tf")
class AffineConfidence(ConfidenceFunction):
    """The teacher calibrated per group on held-out rows: sigmoid(a_g * z + b_g), a_g > 0.

    Where a group clicks less than the teacher thinks, or at random, its clicks lose confidence or
    contrast. Small groups are shrunk toward the pooled calibration, empty ones equal it, and so
    does a single group, exactly (see `clsd_tf.calibration.fit_affine_by_group`).

    Args:
      num_groups: number of user groups.
      prior_strength: in impressions, > 0: a group of that size goes about half of the way from the
        pooled calibration to its own. Defaults to 1000.
    """

    def __init__(self, num_groups: int, prior_strength: float = 1000.0, **kwargs):
        if not prior_strength > 0.0:
            raise ValueError(
                f"`prior_strength` must be > 0. Received: prior_strength={prior_strength}. "
                "It counts impressions; a group with fewer keeps close to the pooled calibration."
            )
        super().__init__(num_groups=num_groups, **kwargs)
        self.prior_strength = prior_strength
        self.pooled_head = GroupConfidenceHead(1, trainable=False, name="pooled")
        self.local_head = GroupConfidenceHead(num_groups, trainable=False, name="local")

    @property
    def needs_held_out(self) -> bool:
        """See the base class."""
        return True

    def fit_parameters(
        self, teacher_logits: np.ndarray, labels: np.ndarray, group: np.ndarray
    ) -> None:
        """See the base class."""
        pooled, local = fit_affine_by_group(
            teacher_logits,
            labels,
            group,
            num_groups=self.num_groups,
            prior_strength=self.prior_strength,
        )
        self.pooled_head.assign(*pooled)
        self.local_head.assign(*local)

    def call(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        self.require_fitted()
        pooled = self.pooled_head(teacher_logits, tf.zeros_like(group))
        return pooled, self.local_head(teacher_logits, group)

    def table(self, group_names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
        """See the base class; the first row is the pooled calibration."""
        names = [str(g) for g in range(self.num_groups)] if group_names is None else group_names
        if len(names) != self.num_groups:
            raise ValueError(
                f"There must be one name per group. Received: {len(names)} names, {list(names)}. "
                f"Expected: {self.num_groups}."
            )
        heads = (self.pooled_head, self.local_head)
        scales = np.concatenate([head.scale.numpy() for head in heads])
        biases = np.concatenate([tf.convert_to_tensor(head.bias).numpy() for head in heads])
        return [
            {"group": name, "scale": float(scale), "bias": float(bias)}
            for name, scale, bias in zip(["pooled", *names], scales, biases, strict=True)
        ]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "prior_strength": self.prior_strength}


def _positive_sigmoid(logits: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(tf.maximum(logits, _MIN_LOGIT))


def _inverse_softplus(values: np.ndarray | float) -> np.ndarray:
    # log(exp(v) - 1) = v + log(1 - exp(-v)), which does not overflow.
    return values + np.log(-np.expm1(-values))
