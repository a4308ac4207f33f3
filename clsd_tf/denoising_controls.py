"""Objectives that say what a gain comes from: `shuffled`, the floor, and `oracle`, the ceiling."""

from __future__ import annotations

from typing import Literal, get_args

import tensorflow as tf
import tf_keras as keras

from clsd_tf.denoising_base import Batch, ClickWeighing, Objective, register_objective
from clsd_tf.denoising_weights import dwell_value, permute_among_clicks
from clsd_tf.losses import click_weights
from clsd_tf.running_moments import RunningClickMoments

Signal = Literal["binary", "dwell_seconds", "dwell_milliseconds"]


@register_objective("shuffled")
@keras.saving.register_keras_serializable(package="clsd_tf")
class ShuffledConfidence(Objective):
    """The model's own loss, with the confidences of a batch permuted among its clicks.

    A control, this project's own: level and spread of the confidences stay, what they know of a
    click is gone. The order follows from seed and step.

    Args:
      seed: of the order. Defaults to 0.
    """

    needs_teacher = True
    needs_confidence = True

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def call(self, logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.convert_to_tensor(self.step)])
        # One seed, one order: what a click is told stays together.
        shuffled = {
            name: permute_among_clicks(values, batch.labels, seed=seed)
            for name in ("confidence", "emphasis")
            if (values := getattr(batch.lesson, name)) is not None
        }
        return batch.student_loss(logits, batch.labels, batch.lesson._replace(**shuffled))

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "seed": self.seed}


@register_objective("oracle")
@keras.saving.register_keras_serializable(package="clsd_tf")
class SatisfactionWeighing(ClickWeighing):
    """Weighs a click by what the user did after it, which no other way of learning is told.

        w = s / mean(s over clicks)  where y = 1,    w = 1  where y = 0

    A bound, not a method: it learns from the signal by which models are judged. Where the signal is
    missing a click weighs 1.

    Source: arXiv 2209.09000 for the value of dwell time, `dwell_value`.

    Args:
      column: feature that holds the signal, float [batch], NaN where missing.
      signal: "binary": s is the signal, in {0, 1}. "dwell_seconds" and "dwell_milliseconds": s is
        its `dwell_value`.
    """

    def __init__(self, column: str = "satisfaction", signal: Signal = "binary", **kwargs):
        if signal not in get_args(Signal):
            raise ValueError(
                f"Unknown `signal`. Received: {signal!r}. Expected one of: "
                f"{', '.join(get_args(Signal))}."
            )
        super().__init__(**kwargs)
        self.column = column
        self.signal = signal
        self.mean_satisfaction = RunningClickMoments(name="mean_satisfaction")

    @property
    def columns(self) -> tuple[str, ...]:
        """See the base class."""
        return (self.column,)

    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        if self.column not in batch.features:
            raise ValueError(
                "Objective 'oracle' finds no satisfaction in the features. Received: "
                f"{', '.join(batch.features)}. Expected: '{self.column}', float [batch]. Read it "
                "with `extra_columns`, or name another `column`."
            )
        signal = tf.reshape(tf.cast(batch.features[self.column], tf.float32), [-1])
        if self.signal != "binary":
            unit = 1e-3 if self.signal == "dwell_milliseconds" else 1.0
            signal = dwell_value(signal * unit)
        known = ~tf.math.is_nan(signal)
        self.mean_satisfaction.update(signal, tf.where(known, batch.labels, 0.0))
        mean = self.mean_satisfaction.mean
        value = tf.where(known, signal, mean)
        return click_weights(batch.labels, value, mean_weight=mean)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "column": self.column, "signal": self.signal}
