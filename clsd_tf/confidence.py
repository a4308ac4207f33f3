"""The confidence functions: `global`, `affine` and, imported, those of noise mixtures.

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
    group_names,
    register_confidence,
)
from clsd_tf.granularity import MultiGranularityConfidence
from clsd_tf.group_head import GroupConfidenceHead, positive_sigmoid
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.running_moments import RunningClickMoments

__all__ = [
    "CONFIDENCE_FUNCTIONS",
    "AffineConfidence",
    "ConfidenceFunction",
    "GlobalConfidence",
    "GroupConfidenceHead",
    "MixtureConfidence",
    "MultiGranularityConfidence",
    "RunningClickMoments",
    "combine",
    "get_confidence",
    "register_confidence",
]


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

    clicks_suffice = True

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
        confidence = positive_sigmoid(self.sharpness * self.moments(teacher_logits))
        return confidence, confidence

    def table(self, names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
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

    clicks_suffice = True

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
        self,
        teacher_logits: np.ndarray,
        labels: np.ndarray,
        group: np.ndarray,
        weights: np.ndarray | None,
    ) -> None:
        """See the base class."""
        pooled, local = fit_affine_by_group(
            teacher_logits,
            labels,
            group,
            num_groups=self.num_groups,
            prior_strength=self.prior_strength,
            weights=weights,
        )
        self.pooled_head.assign(*pooled)
        self.local_head.assign(*local)

    def call(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        self.require_fitted()
        pooled = self.pooled_head(teacher_logits, tf.zeros_like(group))
        return pooled, self.local_head(teacher_logits, group)

    def table(self, names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
        """See the base class; the first row is the pooled calibration."""
        names = group_names(names, self.num_groups)
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
