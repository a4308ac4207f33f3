"""Confidence functions for a teacher that changes: learned by batches, not fitted at once."""

from __future__ import annotations

from clsd_tf.confidence import get_confidence
from clsd_tf.confidence_base import ConfidenceFunction
from clsd_tf.granularity import OnlineMultiGranularityConfidence
from clsd_tf.online_affine import OnlineAffineConfidence
from clsd_tf.online_mixture import OnlineMixtureConfidence

_ONLINE = {
    "affine": OnlineAffineConfidence,
    "mixture": OnlineMixtureConfidence,
    "multi_granularity": OnlineMultiGranularityConfidence,
}


def online_confidence(
    confidence: str | ConfidenceFunction | None, num_groups: int, **options: object
) -> ConfidenceFunction | None:
    """The confidence function for a teacher that changes: an online one for the names of others.

    Args:
      confidence: a name or a function; None distils only.
      num_groups: number of user groups.
      **options: arguments of a function that is given by name.

    Raises:
      ValueError: the function would be fitted on held-out rows, before there is a teacher.
    """
    if isinstance(confidence, str) and confidence in _ONLINE:
        return _ONLINE[confidence](num_groups, **options)
    if isinstance(confidence, str):
        confidence = get_confidence(confidence, num_groups, **options)
    if isinstance(confidence, ConfidenceFunction) and confidence.needs_held_out:
        raise ValueError(
            "An EMA teacher is not there yet when confidence is fitted on held-out rows. "
            f"Received: {confidence.name!r}. Expected: 'global', {', '.join(map(repr, _ONLINE))} "
            "by name, or another function that learns while the student trains."
        )
    return confidence
