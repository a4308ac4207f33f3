"""`mixture` confidence that is fitted while the student trains, for a teacher that changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.confidence_base import register_confidence
from clsd_tf.distributed import all_reduce_sum, update_together
from clsd_tf.group_head import assign_heads
from clsd_tf.histograms import bin_centers, click_histogram
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.noise_rates import MAX_RATE, NoiseRates, tail_noise_rates

# Shares of a step that are tried; the one of least loss is taken, so that no step makes it worse.
_STEPS = (1.0, 0.25, 0.0625, 0.0)


@register_confidence("online_mixture")
@keras.saving.register_keras_serializable(package="clsd_tf")
class OnlineMixtureConfidence(MixtureConfidence):
    """The posterior that interest caused a click, as in `MixtureConfidence`, learned by batches.

    The teacher's logits must be of batches that it has not trained on, as those of `EMATeacher`
    are in the first epoch. They are counted in a histogram by group, logit and label, which
    forgets slowly:

        N <- d_t N + batch,    d_t = min(decay, (t - 1) / t)

    So batch s of t counts s / t, as in `ProgressiveClicks`, until the memory that `decay` allows is
    full. After each batch the noise rates are read in the tails of the histogram
    (`clsd_tf.noise_rates`), and (a_g, b_g) take one Fisher scoring step on its cross-entropy with
    these rates, of which only as much is taken as lowers the loss. Counts are taken for as many
    impressions as Kish's effective number says. This project's reading.

    Args:
      num_groups: number of user groups.
      decay: memory of the histogram per batch, in (0, 1). Defaults to 0.999, 1000 batches.
      num_bins: bins between logits -16 and 16. Defaults to 1024, a width of 1/32.
      **kwargs: as of `MixtureConfidence`.
    """

    def __init__(self, num_groups: int, decay: float = 0.999, num_bins: int = 1024, **kwargs):
        """See the class."""
        super().__init__(num_groups, **kwargs)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"`decay` must be in (0, 1). Received: decay={decay}.")
        self.decay = decay
        self.num_bins = num_bins
        self._step = self._add_sum("step", ())
        self._counts = self._add_sum("counts", (num_groups, num_bins, 2))
        self._squares = self._add_sum("squares", ())  # of the weights of impressions

    @property
    def needs_held_out(self) -> bool:
        """See the base class."""
        return False

    def update(self, teacher_logits: tf.Tensor, labels: tf.Tensor, group: tf.Tensor) -> None:
        """See the base class."""
        batch = click_histogram(
            labels, teacher_logits, group, num_groups=self.num_groups, num_bins=self.num_bins
        )
        state = [self._step, self._counts, self._squares, self.pooled_rate, self.noise_rates]
        heads = (self.pooled_head, self.local_head)
        state += [variable for head in heads for variable in (head.raw_scale, head.bias)]
        update_together(self._add_batch, state, all_reduce_sum(batch))

    def _add_batch(self, state: Sequence[tf.Variable], batch: tf.Tensor) -> None:
        """Takes the step of a batch on one replica's copies of the state."""
        step, counts, squares, pooled_rate, noise_rates, *heads = state
        step.assign_add(1.0)
        decay = tf.minimum(self.decay, 1.0 - 1.0 / step)
        counts.assign(decay * counts + batch)
        squares.assign(decay * decay * squares + tf.reduce_sum(batch))
        effective = counts * (tf.reduce_sum(counts) / squares)
        rate_of_all, rates = self._rates_of(effective)
        pooled_rate.assign(rate_of_all)
        noise_rates.assign(rates)

        parameters = [
            tf.stack([tf.nn.softplus(raw_scale), bias], axis=1)
            for raw_scale, bias in zip(heads[::2], heads[1::2], strict=True)
        ]
        everyone = tf.reduce_sum(effective, axis=0, keepdims=True)
        # One impression's worth toward the teacher as it is, for what rows leave open.
        start = tf.constant([[1.0, 0.0]])
        pooled = _fisher_step(everyone, rate_of_all, parameters[0], tf.eye(2), start)
        information, _ = _expansion(everyone, rate_of_all, pooled)
        penalty = self.prior_strength * information[0] / tf.reduce_sum(everyone)
        # A single group is the pool; the prior would only add roundings.
        local = pooled
        if self.num_groups > 1:
            local = _fisher_step(effective, rates, parameters[1], penalty, pooled)
        assign_heads(heads, pooled, local)

    def _rates_of(self, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rates that are used: of all groups together [1], and of each [num_groups]."""
        rows = tf.reduce_sum(counts, axis=[1, 2])
        if self.rates is not None:
            rates = tf.constant(self.rates, tf.float32)
            return tf.reduce_sum(rates * rows, keepdims=True) / tf.reduce_sum(rows), rates
        pooled, rates = tail_rates(counts, self.tail, self.min_rows, self.prior_rows)
        if self.relative and self.num_groups > 1:
            least = tf.reduce_min(tf.where(rows > 0.0, rates, 1.0))
            pooled, rates = ((r - least) / (1.0 - least) for r in (pooled, rates))
        return tf.maximum(pooled, 0.0), tf.maximum(rates, 0.0)

    def _told(self) -> NoiseRates:
        """See the base class: read in the histogram as it is."""
        counts = tf.convert_to_tensor(self._counts).numpy().astype(np.float64)
        total = counts.sum()
        scale = total / float(tf.convert_to_tensor(self._squares)) if total else 0.0
        groups, bins, labels = np.nonzero(counts)
        if not total:
            nothing = np.zeros(self.num_groups)
            return NoiseRates(0.0, nothing, nothing, nothing, nothing)
        return self._known(
            tail_noise_rates(
                bin_centers(self.num_bins)[bins],
                labels,
                groups,
                num_groups=self.num_groups,
                weights=counts[groups, bins, labels] * scale,
                tail=self.tail,
                min_rows=self.min_rows,
                prior_rows=self.prior_rows,
            )
        )

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "decay": self.decay, "num_bins": self.num_bins}

    def _add_sum(self, name: str, shape: tuple[int, ...]) -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)


def tail_rates(
    counts: tf.Tensor, tail: float, min_rows: float, prior_rows: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """`clsd_tf.noise_rates.tail_noise_rates` of a histogram, inside a train step.

    Args:
      counts: float [num_groups, num_bins, 2], non-clicks and clicks.
      tail: share of a group's impressions that are taken for its least likely ones.
      min_rows: impressions that a tail has at least, where the group has as many.
      prior_rows: impressions that the pooled rate is worth.

    Returns:
      Rate of all groups together [1], and of each [num_groups].
    """
    groups = counts.shape[0]
    in_order = tf.reshape(counts, [groups, -1])
    rows = tf.reduce_sum(in_order, axis=1)
    sizes = tf.minimum(tf.maximum(tail * rows, min_rows), rows)
    before = tf.cumsum(in_order, axis=1, exclusive=True)
    taken = tf.clip_by_value(sizes[:, tf.newaxis] - before, 0.0, in_order)
    clicks = tf.reduce_sum(tf.reshape(taken, tf.shape(counts))[:, :, 1], axis=1)
    found = tf.math.divide_no_nan(clicks, sizes)
    pooled = tf.reduce_sum(found * rows, keepdims=True) / tf.reduce_sum(rows)
    pooled = tf.minimum(pooled, MAX_RATE)
    if groups == 1:
        return pooled, pooled
    rates = tf.math.divide_no_nan(clicks + prior_rows * pooled, sizes + prior_rows)
    return pooled, tf.where(rows > 0.0, tf.minimum(rates, MAX_RATE), pooled)


def _fisher_step(
    counts: tf.Tensor,
    rates: tf.Tensor,
    parameters: tf.Tensor,
    penalty: tf.Tensor,
    center: tf.Tensor,
) -> tf.Tensor:
    """The next (a, b) [groups, 2] of a penalised fit to a histogram.

    Args:
      counts: float [groups, num_bins, 2].
      rates: e, float [groups].
      parameters: (a, b) of the moment, [groups, 2].
      penalty: [2, 2].
      center: where the penalty is 0, [1, 2].
    """
    information, gradient = _expansion(counts, rates, parameters)
    right = tf.linalg.matvec(information, parameters) - gradient + tf.linalg.matvec(penalty, center)
    target = tf.linalg.solve(information + penalty, right[:, :, tf.newaxis])[:, :, 0]
    tried = [parameters + share * (target - parameters) for share in _STEPS]
    losses = tf.stack([_loss(counts, rates, t, penalty, center) for t in tried])
    losses = tf.where(tf.math.is_nan(losses), np.inf, losses)
    best = tf.argmin(losses, axis=0)  # [groups]
    return tf.gather(tf.stack(tried, axis=1), best, batch_dims=1)


def _expansion(
    counts: tf.Tensor, rates: tf.Tensor, parameters: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Expected Hessian [groups, 2, 2] and gradient [groups, 2] of the cross-entropy.

    With s = a z + b, p = sigmoid(s) and click rate q = e + (1 - e) p, dq/ds = (1 - e) p (1 - p) and
    1 - q = (1 - e)(1 - p). So the derivative (q - y) (dq/ds) / (q (1 - q)) of the cross-entropy is
    (q - y) p / q, and its expected second derivative (dq/ds)^2 / (q (1 - q)) is
    (1 - p) p (1 - e) p / q.
    """
    inputs, p, q = _rates_by_bin(counts, rates, parameters)
    share = tf.math.divide_no_nan(p, q)
    impressions, clicks = tf.reduce_sum(counts, axis=2), counts[:, :, 1]
    slope = (impressions * q - clicks) * share
    curvature = impressions * (1.0 - p) * p * (1.0 - rates[:, tf.newaxis]) * share
    information = tf.einsum("gn,ni,nj->gij", curvature, inputs, inputs)
    return information, tf.einsum("gn,ni->gi", slope, inputs)


def _loss(
    counts: tf.Tensor,
    rates: tf.Tensor,
    parameters: tf.Tensor,
    penalty: tf.Tensor,
    center: tf.Tensor,
) -> tf.Tensor:
    """Penalised cross-entropy [groups], less what does not depend on the parameters."""
    inputs, _, q = _rates_by_bin(counts, rates, parameters)
    scores = tf.matmul(parameters, inputs, transpose_b=True)
    # log(1 - q) = log(1 - e) + log(1 - p), of which the first is constant.
    fit = counts[:, :, 1] * tf.math.log(q + 1e-30) - counts[:, :, 0] * tf.nn.softplus(scores)
    away = parameters - center
    return 0.5 * tf.einsum("gi,ij,gj->g", away, penalty, away) - tf.reduce_sum(fit, axis=1)


def _rates_by_bin(
    counts: tf.Tensor, rates: tf.Tensor, parameters: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Inputs (z, 1) [num_bins, 2]; interest p and click rate q, [groups, num_bins] each."""
    z = tf.constant(bin_centers(counts.shape[1]), tf.float32)
    inputs = tf.stack([z, tf.ones_like(z)], axis=1)
    p = tf.sigmoid(tf.matmul(parameters, inputs, transpose_b=True))
    e = rates[:, tf.newaxis]
    return inputs, p, e + (1.0 - e) * p
