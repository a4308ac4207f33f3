"""What a way of learning is besides click confidence, and the registry of them.

An `Objective` takes the place of the loss in `ClickConfidenceModel`: same backbone, batches and
steps, another loss for each example. To add one, write a subclass under
`@register_objective("name")` and import its file in `clsd_tf.denoising`.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import Features
from clsd_tf.features import ModelFeature
from clsd_tf.losses import click_loss
from clsd_tf.student import Lesson, StudentLoss


class Batch(NamedTuple):
    """What an objective sees of a batch.

    Attributes:
      features: as read, with `_user`, `_group` and the objective's own `columns`.
      labels: float32 [batch], in {0, 1}.
      lesson: what the teacher says; None without a teacher.
      student_loss: what the model would minimise by itself.
    """

    features: Features
    labels: tf.Tensor
    lesson: Lesson | None
    student_loss: StudentLoss


class Objective(keras.layers.Layer, abc.ABC):
    """Base class: logits and a batch -> the loss of each example.

    A subclass overrides `call`. It may hold weights of its own: trainable ones are trained with the
    backbone, the others are for running statistics. All are in checkpoints of the training, none
    in what is saved and served.

    Attributes:
      step: int64 scalar, steps taken before this one; the model counts.
      needs_teacher: whether `batch.lesson` must be there.
      needs_confidence: whether the lesson must hold confidence.
      output_meaning: what a predicted probability estimates; None: as without the objective.
    """

    needs_teacher: bool = False
    needs_confidence: bool = False
    output_meaning: str | None = None

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")  # mixed precision would round the losses
        super().__init__(**kwargs)
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype=tf.int64,
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @abc.abstractmethod
    def call(self, logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Returns the loss of each example, float32 [batch].

        Args:
          logits: float32 [batch], of the backbone in training.
          batch: see `Batch`.
        """

    def require_taught(
        self,
        teacher: keras.layers.Layer | None,
        confidence: keras.layers.Layer | str | None,
        distillation: float,
    ) -> None:
        """Raises ValueError unless the objective gets what it needs, and nothing in vain."""
        if self.needs_teacher and teacher is None:
            raise ValueError(
                f"{type(self).__name__} needs a teacher. Received: teacher=None. Train a model "
                "first and pass it as `teacher`."
            )
        if self.needs_confidence != (confidence is not None):
            does = "needs" if self.needs_confidence else "does not use"
            raise ValueError(
                f"{type(self).__name__} {does} confidence. Received: confidence={confidence!r}. "
                "Name a confidence function, or leave it out."
            )
        if distillation and not self.needs_confidence:
            raise ValueError(
                f"{type(self).__name__} is the whole loss. Received: "
                f"distillation={distillation}, which would do nothing. Leave it out."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Features for the objective alone: neither backbone nor teacher is given them."""
        return ()


class ClickWeighing(Objective):
    """An objective that is `click_loss` times a weight. A subclass overrides `weigh`."""

    output_meaning = "click rate, approximately: impressions were weighed, not calibrated"

    @abc.abstractmethod
    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Returns the weight of each example, float32 [batch]; it gets no gradient.

        Args:
          losses: `click_loss` of each example, float32 [batch].
          batch: see `Batch`.
        """

    def call(self, logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        losses = click_loss(logits, batch.labels)
        return tf.stop_gradient(self.weigh(losses, batch)) * losses


OBJECTIVES: dict[str, Callable[..., Objective]] = {}
_Factory = TypeVar("_Factory", bound=Callable[..., Objective])


def register_objective(name: str) -> Callable[[_Factory], _Factory]:
    """Makes a class, or a function that returns an `Objective`, available as `name`."""

    def register(factory: _Factory) -> _Factory:
        if name in OBJECTIVES:
            raise ValueError(
                f"There is an objective {name!r} already: {OBJECTIVES[name]}. Received: {factory}. "
                "Register it under another name."
            )
        OBJECTIVES[name] = factory
        return factory

    return register


def get_objective(name: str, features: Sequence[ModelFeature] = (), **kwargs: object) -> Objective:
    """Builds the objective registered as `name`.

    Args:
      name: a key of `OBJECTIVES`.
      features: the model's features; passed on where the objective takes them.
      **kwargs: further arguments of the objective.

    Raises:
      ValueError: there is no such objective, or it does not take the arguments.
    """
    if name not in OBJECTIVES:
        raise ValueError(
            f"Unknown objective. Received: {name!r}. Expected one of: "
            f"{', '.join(sorted(OBJECTIVES))}. Objectives of your own are available once the file "
            "that registers them is imported."
        )
    factory = OBJECTIVES[name]
    taken = inspect.signature(factory).parameters.keys() - {"kwargs"}
    if unknown := sorted(kwargs.keys() - taken):
        raise ValueError(
            f"Objective {name!r} does not take that. Received: "
            f"{', '.join(unknown)}. Expected: "
            f"{', '.join(sorted(taken - {'features'})) or 'no arguments'}."
        )
    if "features" in taken:
        kwargs["features"] = features
    return factory(**kwargs)


def require_in(interval: str, holds: bool, **argument: float) -> None:
    """Raises ValueError, naming the argument, unless it `holds` that it is in the interval."""
    if not holds:
        ((name, value),) = argument.items()
        raise ValueError(f"`{name}` must be {interval}. Received: {name}={value}.")
