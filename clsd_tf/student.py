"""How a student learns from clicks, their confidence and its teacher: one loss per example."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, get_args

import tensorflow as tf

from clsd_tf.losses import (
    click_loss,
    click_weights,
    distillation_loss,
    emphasis_weights,
    soft_labels,
)

Student = Literal["weight", "soft"]


class Lesson(NamedTuple):
    """What a student is taught about a batch.

    Attributes:
      teacher_logits: float32 [batch], what is distilled; of clicks alone where nothing is.
      confidence: float32 [batch], or None to distil only; it is that of clicks, as is `emphasis`.
      non_click_weights: float32 [batch], weights of non-clicks that belong with confidence as
        weight of clicks; None where they weigh 1.
      mean_weight: scalar, of late: mean of the confidence over clicks or, with
        `non_click_weights`, of the weight over impressions; None without confidence.
      emphasis: float32 [batch], what clicks weigh beside their confidence, 1 on average; None where
        they weigh the same.
    """

    teacher_logits: tf.Tensor
    confidence: tf.Tensor | None = None
    non_click_weights: tf.Tensor | None = None
    mean_weight: tf.Tensor | None = None
    emphasis: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class StudentLoss:
    """(1 - distillation) * L_student + distillation * CE(teacher, student).

    Source: this project's reading of arXiv 2309.16322 (abstract); distillation as in
    arXiv 1503.02531, section 2.

    Args:
      student: what confidence does. "weight": it weighs clicks, with a mean of 1. "soft": it
        replaces their label.
      distillation: share of the distillation loss, in [0, 1].
      temperature: > 0, softens teacher and student in the distillation loss.

    Raises:
      ValueError: an argument is out of range.
    """

    student: Student = "weight"
    distillation: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.student not in get_args(Student):
            raise ValueError(
                f"Unknown `student`. Received: {self.student!r}. Expected one of: "
                f"{', '.join(get_args(Student))}."
            )
        if not 0.0 <= self.distillation <= 1.0:
            raise ValueError(
                f"`distillation` must be in [0, 1]. Received: distillation={self.distillation}."
            )
        if not self.temperature > 0.0:
            raise ValueError(
                f"`temperature` must be > 0. Received: temperature={self.temperature}."
            )

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, lesson: Lesson | None) -> tf.Tensor:
        """Returns the loss of each example, float32 [batch]; without a lesson, `click_loss`."""
        if lesson is None:
            return click_loss(logits, labels)
        losses = self._confident_loss(logits, labels, lesson)
        if lesson.emphasis is not None:
            losses *= emphasis_weights(labels, lesson.emphasis)
        if not self.distillation:
            return losses
        distilled = distillation_loss(logits, lesson.teacher_logits, temperature=self.temperature)
        return (1.0 - self.distillation) * losses + self.distillation * distilled

    def _confident_loss(self, logits: tf.Tensor, labels: tf.Tensor, lesson: Lesson) -> tf.Tensor:
        if lesson.confidence is None:
            return click_loss(logits, labels)
        if self.student == "soft":
            return click_loss(logits, soft_labels(labels, lesson.confidence))
        weights = click_weights(
            labels,
            lesson.confidence,
            non_click_weights=lesson.non_click_weights,
            mean_weight=lesson.mean_weight,
        )
        return weights * click_loss(logits, labels)
