"""The confidence function of a model; for a teacher that changes, one that learns by batches."""

from __future__ import annotations

import tf_keras as keras

from clsd_tf.confidence import get_confidence
from clsd_tf.confidence_base import ConfidenceFunction
from clsd_tf.ema import EMATeacher
from clsd_tf.granularity import OnlineMultiGranularityConfidence
from clsd_tf.online_affine import OnlineAffineConfidence
from clsd_tf.online_mixture import OnlineMixtureConfidence

_ONLINE = {
    "affine": OnlineAffineConfidence,
    "mixture": OnlineMixtureConfidence,
    "multi_granularity": OnlineMultiGranularityConfidence,
}


def confidence_for(
    teacher: keras.layers.Layer | None,
    confidence: str | ConfidenceFunction | None,
    num_groups: int,
) -> ConfidenceFunction | None:
    """The confidence function of a model, which may be given by name.

    Raises:
      ValueError: it is of other groups than the model, or of no use with this teacher.
    """
    if isinstance(teacher, EMATeacher):
        confidence = online_confidence(confidence, num_groups)
    if isinstance(confidence, str):
        return get_confidence(confidence, num_groups)
    if confidence is not None and confidence.num_groups not in (None, num_groups):
        raise ValueError(
            "Model and confidence function must agree on the number of groups. Received: "
            f"num_groups={num_groups} and {confidence.num_groups}."
        )
    return confidence


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
