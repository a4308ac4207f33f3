"""Objectives that trust a click by the model's own loss on it: `t_ce`, `r_ce`, `pld_style`."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.denoising_base import Batch, ClickWeighing, register_objective, require_in
from clsd_tf.denoising_weights import certainty_weights, truncation_weights
from clsd_tf.features import USER


@register_objective("t_ce")
@keras.saving.register_keras_serializable(package="clsd_tf")
class TruncatedLoss(ClickWeighing):
    """T-CE: drops the clicks with the largest loss, more of them as training goes on.

        share = min(step / ramp_steps, 1) * drop_rate

    Source: arXiv 2006.04153. Losses are compared among the clicks of a replica's batch; dropped
    clicks count in its mean, as a loss of 0.

    Args:
      drop_rate: share of clicks dropped in the end, in [0, 1). Defaults to 0.1.
      ramp_steps: steps until then, >= 1. Defaults to 1000.
    """

    output_meaning = "rate of clicks that were not dropped"

    def __init__(self, drop_rate: float = 0.1, ramp_steps: int = 1000, **kwargs):
        require_in("in [0, 1)", 0.0 <= drop_rate < 1.0, drop_rate=drop_rate)
        require_in(">= 1", ramp_steps >= 1, ramp_steps=ramp_steps)
        super().__init__(**kwargs)
        self.drop_rate = drop_rate
        self.ramp_steps = ramp_steps

    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        ramp = tf.minimum(tf.cast(self.step, tf.float32) / self.ramp_steps, 1.0)
        return truncation_weights(losses, batch.labels, drop_share=ramp * self.drop_rate)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        own = {"drop_rate": self.drop_rate, "ramp_steps": self.ramp_steps}
        return {**super().get_config(), **own}


@register_objective("r_ce")
@keras.saving.register_keras_serializable(package="clsd_tf")
class ReweightedLoss(ClickWeighing):
    """R-CE: weighs an example by the probability that the model gives its label, to some power.

    Source: arXiv 2006.04153.

    Args:
      beta: the power, >= 0. Defaults to 0.5.
    """

    def __init__(self, beta: float = 0.5, **kwargs):
        require_in(">= 0", beta >= 0.0, beta=beta)
        super().__init__(**kwargs)
        self.beta = beta

    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        return certainty_weights(losses, beta=self.beta)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "beta": self.beta}


@register_objective("pld_style")
@keras.saving.register_keras_serializable(package="clsd_tf")
class PersonalLossWeighing(ClickWeighing):
    """Weighs a click by its loss among the losses of the user's other clicks.

        w = exp(-loss / temperature) / mean(exp(-loss' / temperature) over the user's pool)

    After PLD, arXiv 2502.00348, which draws each positive from a pool of k of the user's clicks
    with probability softmax(-loss / temperature). What differs, to keep the log's own batches:

    * A click is not drawn: it weighs what k draws would take of it on average.
    * The pool is the user's clicks of this batch and a decayed memory of the earlier ones, at the
      losses they had then, as heavy as `pool_size` clicks. A user's first click weighs 1.
    * Non-clicks are those of the log, and the loss is pointwise.

    Users share a memory where their fingerprints agree modulo `num_slots`. Under `tf.distribute` it
    holds the rows of the first replica.

    Args:
      pool_size: k, >= 1. Defaults to 5.
      temperature: > 0. Defaults to 0.1.
      warmup_steps: steps in which all weigh 1. Defaults to 100.
      num_slots: of the memory, >= 1. Defaults to 65536.
    """

    def __init__(
        self,
        pool_size: int = 5,
        temperature: float = 0.1,
        warmup_steps: int = 100,
        num_slots: int = 65536,
        **kwargs,
    ):
        require_in(">= 1", pool_size >= 1, pool_size=pool_size)
        require_in("> 0", temperature > 0.0, temperature=temperature)
        require_in(">= 0", warmup_steps >= 0, warmup_steps=warmup_steps)
        require_in(">= 1", num_slots >= 1, num_slots=num_slots)
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.temperature = temperature
        self.warmup_steps = warmup_steps
        self.num_slots = num_slots
        # Of each user's earlier clicks: sum of exp(-loss / temperature), and their number.
        self._memory = self.add_weight(
            name="memory",
            shape=(num_slots, 2),
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        if USER not in batch.features:
            raise ValueError(
                "Objective 'pld_style' compares clicks of the same user and finds none in the "
                f"features. Received: {', '.join(batch.features)}. Expected: '{USER}', int [batch]."
            )
        is_click = batch.labels > 0.0
        user = tf.math.floormod(tf.reshape(batch.features[USER], [-1]), self.num_slots)
        slots, place = tf.unique(user)
        # exp(-80) is well inside the range of float32: a first click weighs 1, however unlikely.
        merit = tf.exp(-tf.minimum(losses / self.temperature, 80.0))
        clicks = tf.where(is_click[:, tf.newaxis], tf.stack([merit, tf.ones_like(merit)], 1), 0.0)
        new = tf.math.unsorted_segment_sum(clicks, place, tf.size(slots))
        pool = tf.gather(self._memory, slots) + new

        # Older clicks fade by as many as came: the memory never outweighs `pool_size` clicks.
        excess = tf.maximum(pool[:, 1:] / self.pool_size, 1.0)
        self._memory.scatter_update(tf.IndexedSlices(tf.stop_gradient(pool / excess), slots))

        mean = tf.gather(tf.math.divide_no_nan(pool[:, 0], pool[:, 1]), place)
        weights = tf.where(is_click, tf.math.divide_no_nan(merit, mean), 1.0)
        return tf.where(self.step < self.warmup_steps, tf.ones_like(weights), weights)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "temperature": self.temperature,
            "warmup_steps": self.warmup_steps,
            "num_slots": self.num_slots,
        }
