"""What a confidence function is, and the registry of them.

A confidence function maps a teacher's logit and the user's group to the confidence that a click
was meant. To add one, write a subclass of `ConfidenceFunction` under `@register_confidence("name")`
and import its file.

Source: arXiv 2309.16322 (abstract) for learning from a global and a group-wise (local) confidence
by self-distillation; the contract and `combine` are this project's reading.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.calibration import check_rows

_OF_LOGITS = frozenset({"call", "update", "interest_logits", "emphasis"})


class ConfidenceFunction(keras.layers.Layer, abc.ABC):
    """Base class: teacher logits and groups -> pooled and local confidence of a click.

    A subclass overrides `call`. One with running statistics also overrides `update`; one that is
    fitted overrides `needs_held_out` and `fit_parameters`, and starts its `call` with
    `self.require_fitted()`. Parameters belong in weights, so that they are saved with the layer.

    Args:
      num_groups: number of user groups; None if the function does not depend on the group.

    Attributes:
      num_groups: as given.
      default_alpha: share of the local confidence where a model does not say otherwise.
      clicks_suffice: whether what is made of clicks is the same whatever the teacher says of other
        impressions; a model then does not ask it, which is cheaper. So it is where `update` learns
        nothing, or from clicks alone. False unless the class that has the methods says otherwise.
    """

    default_alpha = 0.5
    clicks_suffice = False

    def __init_subclass__(cls, **kwargs: object):
        """What was said of other methods does not hold for those that take their place."""
        super().__init_subclass__(**kwargs)
        says = next(c for c in cls.__mro__ if "clicks_suffice" in vars(c))
        has_methods = next(c for c in cls.__mro__ if not _OF_LOGITS.isdisjoint(vars(c)))
        if cls.__mro__.index(has_methods) < cls.__mro__.index(says):
            cls.clicks_suffice = False

    def __init__(self, num_groups: int | None = None, **kwargs):
        if num_groups is not None and num_groups < 1:
            raise ValueError(
                f"`num_groups` must be at least 1. Received: num_groups={num_groups}. "
                "A log without groups has one."
            )
        kwargs.setdefault("dtype", "float32")  # mixed precision would round the teacher's logits
        super().__init__(**kwargs)
        self.num_groups = num_groups
        if self.needs_held_out:
            self.fitted = self.add_weight(
                name="fitted", shape=(), dtype=tf.bool, initializer="zeros", trainable=False
            )

    @abc.abstractmethod
    def call(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the confidence an example would have if it were a click.

        Args:
          teacher_logits: float [batch].
          group: int [batch], in [0, num_groups).

        Returns:
          pooled (at the parameters of all groups together) and local (at those of the example's
          group): float32 [batch] each, in (0, 1], rising with the logit.
        """

    @property
    def needs_held_out(self) -> bool:
        """Whether `fit_held_out` must run before the first use."""
        return False

    @property
    def is_fitted(self) -> bool:
        """Whether the function can be used; always so if it needs no held-out rows."""
        if not self.needs_held_out:
            return True
        with tf.init_scope():  # a value, also while a train step is being traced
            return bool(keras.backend.get_value(self.fitted))

    def require_fitted(self) -> None:
        """Fails unless the function is fitted.

        Raises:
          ValueError: when executing eagerly. A graph may be built before weights are loaded into
            it, so there it is an InvalidArgumentError when the graph runs.
        """
        if not self.needs_held_out:
            return
        message = (
            f"Confidence function {self.name!r} is used before it was fitted. Received: no fit. "
            "Expected: fit_held_out(teacher_logits, labels, group) on rows that the teacher has "
            "not trained on, or weights loaded from a run that did so."
        )
        if not tf.executing_eagerly():
            tf.debugging.Assert(self.fitted, [message])
        elif not self.is_fitted:
            raise ValueError(message)

    # Hooks that do nothing unless overridden are the point of this class.
    def update(self, teacher_logits: tf.Tensor, labels: tf.Tensor, group: tf.Tensor) -> None:
        """Updates running statistics: once per train step, before `call`.

        Args:
          teacher_logits: float [batch].
          labels: [batch], in {0, 1}.
          group: int [batch], in [0, num_groups).
        """

    def interest_logits(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Returns what a teacher that is distilled says of an impression: by default its own logit.

        A function that corrects the teacher overrides this, so that distillation and confidence
        teach the same.

        Args:
          teacher_logits: float [batch].
          group: int [batch], in [0, num_groups).
        """
        return teacher_logits

    def non_click_weights(self, group: tf.Tensor) -> tf.Tensor | None:
        """Returns weights of non-clicks, float [batch], that belong with c as weight of a click.

        None, the default: clicks weigh c relative to other clicks, and non-clicks 1.
        """
        return None

    def emphasis(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor | None:
        """Returns what a click weighs beside what `student` makes of its confidence.

        None, the default: all clicks weigh 1. Otherwise float [batch], with a mean of 1 over
        clicks, so that their share among impressions stays.

        Args:
          teacher_logits: float [batch].
          group: int [batch], in [0, num_groups).
        """
        return None

    @property
    def estimates(self) -> str:
        """What a student estimates whose labels are confidences."""
        return "rate of interested clicks, whose level is arbitrary unless calibrated"

    def fit_held_out(
        self,
        teacher_logits: np.ndarray,
        labels: np.ndarray,
        group: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Fits the parameters, if `needs_held_out`.

        On rows of its own training a teacher is calibrated already, and there is nothing to learn:
        pass out-of-fold or validation rows.

        Args:
          teacher_logits: float [rows], finite.
          labels: [rows], in {0, 1}, both present.
          group: int [rows], in [0, num_groups).
          weights: float [rows], impressions that a row stands for; None: one each.

        Raises:
          ValueError: if the rows do not allow a fit (see `clsd_tf.calibration.check_rows`).
        """
        if self.needs_held_out:
            rows = check_rows(teacher_logits, labels, group, self.num_groups or 1)
            self.fit_parameters(*rows, weights)
            self.fitted.assign(True)

    def fit_parameters(
        self,
        teacher_logits: np.ndarray,
        labels: np.ndarray,
        group: np.ndarray,
        weights: np.ndarray | None,
    ) -> None:
        """Does the work of `fit_held_out`, on rows that were checked (float64, float64, int64)."""

    def table(self, names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
        """Returns the parameters for reading: one dict per row, with the key "group".

        Args:
          names: of the groups, in the order of their ids. Defaults to the ids.
        """
        return []

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        config = super().get_config()
        if self.num_groups is not None:
            config["num_groups"] = self.num_groups
        return config


CONFIDENCE_FUNCTIONS: dict[str, Callable[..., ConfidenceFunction]] = {}
_Factory = TypeVar("_Factory", bound=Callable[..., ConfidenceFunction])


def register_confidence(name: str) -> Callable[[_Factory], _Factory]:
    """Makes a class, or a function that returns a `ConfidenceFunction`, available as `name`."""

    def register(factory: _Factory) -> _Factory:
        if name in CONFIDENCE_FUNCTIONS:
            raise ValueError(
                f"There is a confidence function {name!r} already: {CONFIDENCE_FUNCTIONS[name]}. "
                f"Received: {factory}. Register it under another name."
            )
        CONFIDENCE_FUNCTIONS[name] = factory
        return factory

    return register


def get_confidence(name: str, num_groups: int, **kwargs: object) -> ConfidenceFunction:
    """Builds the confidence function registered as `name`.

    Args:
      name: a key of `CONFIDENCE_FUNCTIONS`.
      num_groups: number of user groups; passed on where the function takes it.
      **kwargs: further arguments of the function.

    Raises:
      ValueError: if there is no such function.
    """
    if name not in CONFIDENCE_FUNCTIONS:
        raise ValueError(
            f"Unknown confidence function. Received: {name!r}. Expected one of: "
            f"{', '.join(sorted(CONFIDENCE_FUNCTIONS))}. Functions of your own are available once "
            "the file that registers them is imported."
        )
    factory = CONFIDENCE_FUNCTIONS[name]
    if "num_groups" in inspect.signature(factory).parameters:
        kwargs["num_groups"] = num_groups
    return factory(**kwargs)


def group_names(names: Sequence[str] | None, num_groups: int) -> Sequence[str]:
    """The names, or the ids in their place.

    Raises:
      ValueError: there are not as many as groups.
    """
    if names is None:
        return [str(group) for group in range(num_groups)]
    if len(names) != num_groups:
        raise ValueError(
            f"There must be one name per group. Received: {len(names)} names, {list(names)}. "
            f"Expected: {num_groups}."
        )
    return names


def combine(pooled: tf.Tensor, local: tf.Tensor, *, alpha: float) -> tf.Tensor:
    """Geometric interpolation of pooled and local confidence: pooled^(1 - alpha) * local^alpha.

    Args:
      pooled: float [batch], in (0, 1].
      local: float [batch], in (0, 1].
      alpha: in [0, 1]; 0 is pooled, 1 is local.

    Returns:
      float [batch], in (0, 1].

    Raises:
      ValueError: if `alpha` is out of range.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(
            f"`alpha` must be in [0, 1]. Received: alpha={alpha}. "
            "0 uses the pooled confidence, 1 that of the group."
        )
    return tf.pow(pooled, 1.0 - alpha) * tf.pow(local, alpha)
