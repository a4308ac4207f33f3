"""The confidence function `multi_granularity`: was a click meant, and how does it stand?"""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.confidence_base import ConfidenceFunction, register_confidence
from clsd_tf.group_head import positive_sigmoid
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.online_mixture import OnlineMixtureConfidence
from clsd_tf.running_moments import RunningClickMoments


class Emphasis(ConfidenceFunction):
    """Adds to a confidence function what a click weighs by its standing among all clicks.

        w = s / mean(s over clicks),    s = sigmoid(sharpness * (z* - mean) / deviation)

    z* is `interest_logits`; mean and deviation are those of clicks, of late. To be named before the
    function that it is added to.

    Source: this project's reading of arXiv 2309.16322 (abstract).

    Args:
      num_groups: number of user groups.
      sharpness: > 0. Defaults to 1.
      memory: of mean and deviation, the `decay` of `RunningClickMoments`. Defaults to 0.99.
      **kwargs: of the confidence function.
    """

    def __init__(self, num_groups: int, sharpness: float = 1.0, memory: float = 0.99, **kwargs):
        """See the class."""
        if not sharpness > 0.0:
            raise ValueError(
                f"`sharpness` must be > 0. Received: sharpness={sharpness}. The confidence "
                "function 'mixture' is without emphasis."
            )
        super().__init__(num_groups=num_groups, **kwargs)
        self.sharpness = sharpness
        self.moments = RunningClickMoments(memory, name="moments")
        self.level = RunningClickMoments(memory, name="level")

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
            "memory": self.moments.decay,
        }

    def _standing(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        interest = self.interest_logits(teacher_logits, group)
        return positive_sigmoid(self.sharpness * self.moments(interest))


@register_confidence("multi_granularity")
@keras.saving.register_keras_serializable(package="clsd_tf")
class MultiGranularityConfidence(Emphasis, MixtureConfidence):
    """The noise mixture of the groups (local), and the standing of a click among all (global).

        c = p* / (e_g + (1 - e_g) * p*)    as `mixture`: label or weight of a click
        w                                  its weight beside that, see `Emphasis`; z* = logit(p*)

    `mixture` alone believes every click of a group without noise, and c then teaches nothing. With
    the emphasis the student still learns more from clicks that the teacher expected than from those
    that surprised it. It averages 1 over clicks, so that their share among impressions stays about
    what it was.

    Source: this project's reading of arXiv 2309.16322 (abstract).

    Args: those of `Emphasis` and `MixtureConfidence`.
    """

    clicks_suffice = True


@register_confidence("online_multi_granularity")
@keras.saving.register_keras_serializable(package="clsd_tf")
class OnlineMultiGranularityConfidence(Emphasis, OnlineMixtureConfidence):
    """`MultiGranularityConfidence` that is learned by batches, for a teacher that changes.

    Args: those of `Emphasis` and `OnlineMixtureConfidence`.
    """
