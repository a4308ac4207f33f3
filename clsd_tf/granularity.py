"""The confidence function `multi_granularity`: how likely was a click meant, and how strongly."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.confidence_base import register_confidence
from clsd_tf.group_head import positive_sigmoid
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.running_moments import RunningClickMoments


@register_confidence("multi_granularity")
@keras.saving.register_keras_serializable(package="clsd_tf")
class MultiGranularityConfidence(MixtureConfidence):
    """The noise mixture of the groups (local), and the standing of a click among all (global).

        c = p* / (e_g + (1 - e_g) * p*)                   as `mixture`: label or weight of a click
        w = s / mean(s over clicks),
        s = sigmoid(sharpness * (z* - mean) / deviation)  emphasis: its weight beside that

    z* = logit(p*) is the teacher's logit, corrected for the group; mean and deviation are those of
    clicks. `mixture` alone believes every click of a group without noise, and c then teaches
    nothing. The emphasis still has the student learn more from clicks that the teacher expected
    than from those that surprised it. It averages 1 over clicks, so that their share among
    impressions stays about what it was.

    Source: this project's reading of arXiv 2309.16322 (abstract).

    Args:
      num_groups: number of user groups.
      sharpness: > 0, of the emphasis. Defaults to 1.
      decay: memory of mean and deviation, see `RunningClickMoments`. Defaults to 0.99.
      **kwargs: of `MixtureConfidence`.
    """

    def __init__(self, num_groups: int, sharpness: float = 1.0, decay: float = 0.99, **kwargs):
        """See the class."""
        if not sharpness > 0.0:
            raise ValueError(
                f"`sharpness` must be > 0. Received: sharpness={sharpness}. The confidence "
                "function 'mixture' is without emphasis."
            )
        super().__init__(num_groups=num_groups, **kwargs)
        self.sharpness = sharpness
        self.moments = RunningClickMoments(decay, name="moments")
        self.level = RunningClickMoments(decay, name="level")

    def update(self, teacher_logits: tf.Tensor, labels: tf.Tensor, group: tf.Tensor) -> None:
        """See the base class."""
        super().update(teacher_logits, labels, group)
        self.moments.update(self.interest_logits(teacher_logits, group), labels)
        self.level.update(self._standing(teacher_logits, group), labels)

    def emphasis(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """See the base class: s / mean(s over clicks)."""
        standing = self._standing(teacher_logits, group)
        return tf.math.divide_no_nan(standing, self.level.mean)

    @property
    def estimates(self) -> str:
        """See the base class."""
        return (
            "rate of interested clicks, approximately: clicks that the teacher expected weigh more"
        )

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "sharpness": self.sharpness,
            "decay": self.moments.decay,
        }

    def _standing(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        interest = self.interest_logits(teacher_logits, group)
        return positive_sigmoid(self.sharpness * self.moments(interest))
