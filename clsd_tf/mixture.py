"""The confidence function `mixture`: a click is of interest, or of its group's noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.confidence_base import ConfidenceFunction, group_names, register_confidence
from clsd_tf.group_head import GroupConfidenceHead
from clsd_tf.noise_rates import NoiseRates, tail_noise_rates


@register_confidence("mixture")
@keras.saving.register_keras_serializable(package="clsd_tf")
class MixtureConfidence(ConfidenceFunction):
    """The posterior probability that interest, and not noise, caused a click.

        P(click | z, g) = e_g + (1 - e_g) * p*,    p* = sigmoid(a_g * z + b_g),  a_g > 0
        c               = p* / (e_g + (1 - e_g) * p*)

    z is the logit of a teacher of clicks, e_g the noise rate of the user's group. First e_g is
    anchored in the group's least likely impressions (`clsd_tf.noise_rates`), then (a_g, b_g) are
    fitted with it by cross-entropy, shrunk toward those of all groups. Without noise every click
    has confidence 1, and the student learns from clicks as they are.

    An anchor counts what interest is left in the least likely impressions as noise, in all groups
    alike. Rates are therefore taken relative to that of the least noisy group, whose clicks are
    believed: 1 - e_g = (1 - e_least) (1 - e'_g). The order of impressions across groups, which is
    that of (P(click) - e_g) / (1 - e_g), is the same for e and e'. A single group has its own rate.

    Labels y * c are unbiased: E[y * c | x] = p*. As weights, clicks weigh c and non-clicks
    1 / (1 - e_g), whose odds are p* / (1 - p*) as well.

    Source: this project's reading of arXiv 2309.16322 (abstract).

    Args:
      num_groups: number of user groups.
      tail: share of a group's impressions in which its noise rate is read. Defaults to 0.01.
      min_rows: impressions that a tail has at least. Defaults to 200.
      prior_rows: impressions in a tail that the rate of all groups is worth. Defaults to 20.
      prior_strength: impressions that the calibration of all groups is worth. Defaults to 1000.
      relative: whether estimated rates count from that of the least noisy group. Defaults to True.
      rates: known noise rates, float [num_groups], in [0, 1); None: they are estimated.
    """

    default_alpha = 1.0
    clicks_suffice = True

    def __init__(
        self,
        num_groups: int,
        tail: float = 0.01,
        min_rows: float = 200.0,
        prior_rows: float = 20.0,
        prior_strength: float = 1000.0,
        relative: bool = True,
        rates: Sequence[float] | None = None,
        **kwargs,
    ):
        """See the class."""
        _check(num_groups, tail, min_rows, prior_rows, prior_strength, rates)
        super().__init__(num_groups=num_groups, **kwargs)
        self.tail = tail
        self.min_rows = min_rows
        self.prior_rows = prior_rows
        self.prior_strength = prior_strength
        self.relative = relative
        self.rates = None if rates is None else tuple(float(rate) for rate in rates)
        self.pooled_head = GroupConfidenceHead(1, trainable=False, name="pooled")
        self.local_head = GroupConfidenceHead(num_groups, trainable=False, name="local")
        self.pooled_rate = self._add("pooled_rate", 1)
        self.noise_rates = self._add("noise_rates", num_groups)
        self._found = self._add("found", num_groups)
        self._low = self._add("low", num_groups)
        self._high = self._add("high", num_groups)
        self._rows = self._add("rows", num_groups)

    @property
    def needs_held_out(self) -> bool:
        """See the base class."""
        return True

    def fit_parameters(
        self,
        teacher_logits: np.ndarray,
        labels: np.ndarray,
        group: np.ndarray,
        weights: np.ndarray | None,
    ) -> None:
        """See the base class."""
        found = tail_noise_rates(
            teacher_logits,
            labels,
            group,
            num_groups=self.num_groups,
            weights=weights,
            tail=self.tail,
            min_rows=self.min_rows,
            prior_rows=self.prior_rows,
        )
        found = self._known(found)
        pooled_rate, rates = found.pooled, found.rates
        if self.relative and self.rates is None and self.num_groups > 1:
            # 1 - e = (1 - least) (1 - e'): what all groups have in common is taken out.
            least = rates[found.rows > 0].min()
            pooled_rate, rates = ((r - least) / (1.0 - least) for r in (pooled_rate, rates))
            rates = np.maximum(rates, 0.0)
        pooled, local = fit_affine_by_group(
            teacher_logits,
            labels,
            group,
            num_groups=self.num_groups,
            prior_strength=self.prior_strength,
            weights=weights,
            floors=np.concatenate([[pooled_rate], rates]),
        )
        self.pooled_head.assign(*pooled)
        self.local_head.assign(*local)
        self.pooled_rate.assign([pooled_rate])
        for variable, values in (
            (self.noise_rates, rates),
            (self._found, found.rates),
            (self._low, found.low),
            (self._high, found.high),
            (self._rows, found.rows),
        ):
            variable.assign(values.astype(np.float32))

    def _known(self, found: NoiseRates) -> NoiseRates:
        """The rates that were given, in the place of those that were found."""
        if self.rates is None:
            return found
        known = np.asarray(self.rates)
        pooled = float(np.average(known, weights=found.rows))
        return found._replace(pooled=pooled, rates=known, low=known, high=known)

    def _told(self) -> NoiseRates:
        """What `table` says of the groups: their rates as they were found, not relative."""
        parts = (self._found, self._low, self._high, self._rows)
        return NoiseRates(float(self.pooled_rate[0]), *(part.numpy() for part in parts))

    def call(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        self.require_fitted()
        everyone = tf.zeros_like(group)
        pooled = mixture_confidence(
            self.pooled_head(teacher_logits, everyone), tf.gather(self.pooled_rate, everyone)
        )
        local = mixture_confidence(
            self.local_head(teacher_logits, group), tf.gather(self.noise_rates, group)
        )
        return pooled, local

    def interest_logits(self, teacher_logits: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """See the base class: a_g * z + b_g."""
        return self.local_head.logits(teacher_logits, group)

    def non_click_weights(self, group: tf.Tensor) -> tf.Tensor:
        """See the base class: 1 / (1 - e_g)."""
        return 1.0 / (1.0 - tf.gather(self.noise_rates, group))

    @property
    def estimates(self) -> str:
        """See the base class."""
        return "rate of interested clicks, if the noise rates of the groups are right"

    def table(self, names: Sequence[str] | None = None) -> list[dict[str, str | float]]:
        """See the base class; the first row is of all groups together."""
        names = group_names(names, self.num_groups)
        told = self._told()
        local = zip(
            names,
            told.rows,
            told.rates,
            told.low,
            told.high,
            self.local_head.scale.numpy(),
            self.local_head.bias.numpy(),
            strict=True,
        )
        keys = ("group", "rows", "noise_rate", "noise_rate_low", "noise_rate_high", "scale", "bias")
        pooled = {
            "group": "pooled",
            "rows": float(told.rows.sum()),
            "noise_rate": float(self.pooled_rate[0]),
            "scale": float(self.pooled_head.scale[0]),
            "bias": float(self.pooled_head.bias[0]),
        }
        of_groups = [
            dict(zip(keys, (name, *map(float, values)), strict=True)) for name, *values in local
        ]
        return [pooled, *of_groups]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "tail": self.tail,
            "min_rows": self.min_rows,
            "prior_rows": self.prior_rows,
            "prior_strength": self.prior_strength,
            "relative": self.relative,
            "rates": self.rates,
        }

    def _add(self, name: str, size: int) -> tf.Variable:
        return self.add_weight(name=name, shape=(size,), initializer="zeros", trainable=False)


def mixture_confidence(interest: tf.Tensor, noise_rate: tf.Tensor) -> tf.Tensor:
    """Posterior probability that a click was of interest: p* / (e + (1 - e) * p*).

    Args:
      interest: p*, float [batch], in (0, 1].
      noise_rate: e, float [batch], in [0, 1).

    Returns:
      float [batch], in (0, 1], rising with `interest`.
    """
    # Roundings would make it 1.0000001 where both are nearly 1.
    return tf.minimum(interest / (noise_rate + (1.0 - noise_rate) * interest), 1.0)


def _check(
    num_groups: int,
    tail: float,
    min_rows: float,
    prior_rows: float,
    prior_strength: float,
    rates: Sequence[float] | None,
) -> None:
    if not 0.0 < tail < 1.0:
        raise ValueError(f"`tail` must be in (0, 1). Received: tail={tail}.")
    if min_rows < 1 or prior_rows < 0 or not prior_strength > 0.0:
        raise ValueError(
            "`min_rows` must be >= 1, `prior_rows` >= 0 and `prior_strength` > 0. Received: "
            f"min_rows={min_rows}, prior_rows={prior_rows}, prior_strength={prior_strength}."
        )
    if rates is not None and (len(rates) != num_groups or not all(0 <= r < 1 for r in rates)):
        raise ValueError(
            f"`rates` must hold a rate in [0, 1) for each of {num_groups} groups. Received: "
            f"rates={list(rates)}."
        )
