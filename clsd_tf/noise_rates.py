"""Rates at which groups of users click without interest, from their least likely impressions.

A group's noise rate e is the chance that an impression without interest is clicked all the same:

    P(click | x, group) = e + (1 - e) * P(interest | x, group)

No likelihood fixes the level of e: what the noise adds, a flexible model can take for interest. But
e bounds every click rate of the group from below, and is reached where there is no interest. So the
click rate of the group's least likely impressions, by a model that has not trained on them, anchors
the rate: from above, by as much interest as is left there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

# A group in whose tail everything was clicked would leave no room for interest.
MAX_RATE = 0.99


class NoiseRates(NamedTuple):
    """Rates of user groups; float64 [num_groups] each, but for `pooled`.

    Attributes:
      pooled: the rate of all groups together, by their numbers of impressions.
      rates: of each group, shrunk toward the pooled one; equal to it without impressions.
      low, high: limits of a 95 % credible interval of the click rate in the tail.
      rows: impressions of the group.
    """

    pooled: float
    rates: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


def tail_noise_rates(
    logits: np.ndarray,
    labels: np.ndarray,
    group: np.ndarray,
    *,
    num_groups: int,
    weights: np.ndarray | None = None,
    tail: float = 0.01,
    min_rows: float = 200.0,
    prior_rows: float = 20.0,
) -> NoiseRates:
    """Estimates noise rates from the least likely impressions of each group.

    With k clicks among the n impressions of a group's tail, pooled rate e and strength s:

        e_g = (k + s * e) / (n + s)

    the mean of a Beta posterior. This project's reading of arXiv 2309.16322, which only says that
    confidence differs by group.

    Args:
      logits: float [rows], of a model that has not trained on them.
      labels: [rows], in {0, 1}.
      group: int [rows], in [0, num_groups).
      num_groups: number of groups.
      weights: float [rows], impressions that a row stands for; None: one each.
      tail: share of a group's impressions that are taken for its least likely ones, in (0, 1).
      min_rows: impressions that a tail has at least, where the group has as many.
      prior_rows: s, impressions that the pooled rate is worth.

    Returns:
      The rates, in [0, 0.99]. With one group its rate is the pooled one, exactly.
    """
    weights = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    clicks, sizes = np.zeros(num_groups), np.zeros(num_groups)
    rows = np.bincount(group, weights, minlength=num_groups)
    for g in np.flatnonzero(rows):
        of_group = group == g
        order = np.argsort(logits[of_group], kind="stable")
        w, y = weights[of_group][order], np.asarray(labels, np.float64)[of_group][order]
        size = min(max(tail * rows[g], min_rows), rows[g])
        # What is left of the tail for each row; the last row is in it by a part.
        taken = np.clip(size - (np.cumsum(w) - w), 0.0, w)
        clicks[g], sizes[g] = taken @ y, size
    found = np.divide(clicks, sizes, out=np.zeros(num_groups), where=sizes > 0)
    pooled = min(float(np.average(found, weights=rows)), MAX_RATE)
    rates = np.minimum((clicks + prior_rows * pooled) / (sizes + prior_rows), MAX_RATE)
    if num_groups == 1:
        rates = np.array([pooled])
    # The posterior's parameters, with half an impression each way so that it is proper.
    a = clicks + prior_rows * pooled + 0.5
    b = sizes - clicks + prior_rows * (1.0 - pooled) + 0.5
    # `scipy.stats` has this under its own name, and takes a quarter of a second to import.
    low, high = betaincinv(a, b, [[0.025], [0.975]])
    return NoiseRates(pooled, rates, low, high, rows)
