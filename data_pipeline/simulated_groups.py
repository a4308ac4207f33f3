"""User groups of a simulated log, each of which has a noise rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from clsd_tf.features import ClickLogSpec
from data_pipeline.simulated_columns import activity_level
from data_pipeline.simulated_days import Days
from data_pipeline.simulation import Impressions, World, draw_clicks


@dataclasses.dataclass(frozen=True)
class NoisyGroups:
    """Who belongs where.

    Attributes:
      of_user: int64 `[users]`, in `[0, number of rates)`.
      rate: float32 `[rows]`, the noise rate of each impression.
    """

    of_user: np.ndarray
    rate: np.ndarray


def divide_users(
    spec: ClickLogSpec,
    world: World,
    impressions: Impressions,
    days: Days,
    noise_rates: Sequence[float],
    row_rates: np.ndarray | None = None,
) -> NoisyGroups:
    """Divides the users as the group column of `spec` will, from least to most active.

    `row_rates` [rows], where given, are the noise rates; `noise_rates` then only say how many
    groups there are.

    A spec without a group, or with one by vocabulary or hash, has as many as there are rates. With
    `[activity]` the rows in which activity is counted precede the groups; their rate is the mean.

    Raises:
      ValueError: the number of rates is not that of the spec's groups, or a rate is none.
    """
    rates = np.asarray(noise_rates, np.float32)
    if not len(rates) or not all(0 <= rate < 1 for rate in noise_rates):
        raise ValueError(f"Noise rates must be in [0, 1). Received: {list(noise_rates)}.")
    count = _fixed_number(spec) or len(rates)
    if count != len(rates):
        raise ValueError(
            f"Each group of users needs a noise rate. Received: {len(rates)} rates, for the "
            f"{count} groups of column '{spec.group.name}'."
        )
    if spec.activity:
        return _counted_groups(spec, world, impressions, days, rates, row_rates)
    level, sample = world.activity, world.activity
    if spec.group and spec.group.quantiles:  # `prepare` will take them over training rows
        level = activity_level(spec.group, world.activity)
        sample = level[impressions.user[_training(impressions, days)]]
    of_user = _divided(level, _quantile_edges(sample, count))
    if row_rates is None:
        row_rates = rates[of_user][impressions.user]
    return NoisyGroups(of_user, row_rates)


def _counted_groups(
    spec: ClickLogSpec,
    world: World,
    impressions: Impressions,
    days: Days,
    rates: np.ndarray,
    row_rates: np.ndarray | None,
) -> NoisyGroups:
    early = impressions.day < days.train_from
    rate = np.full(len(early), rates.mean(), np.float32) if row_rates is None else row_rates
    counted = early
    if spec.activity.count == "clicks":
        counted = early & draw_clicks(world, impressions, rate).clicked
    level = np.bincount(impressions.user[counted], minlength=world.size.users)
    edges: Sequence[float] | np.ndarray = spec.activity.boundaries
    if edges is None:
        sample = level[impressions.user[_training(impressions, days)]]
        edges = _quantile_edges(sample, len(rates))
    of_user = _divided(level, edges)
    if row_rates is None:
        row_rates = np.where(early, rate, rates[of_user][impressions.user])
    return NoisyGroups(of_user, row_rates)


def _fixed_number(spec: ClickLogSpec) -> int | None:
    """Groups that the spec fixes, None where it fixes none."""
    group = spec.group
    if group is None or group.encoding in ("vocabulary", "hash"):
        return None
    if group.encoding == "identity":
        return group.num_values
    return group.quantiles or len(group.boundaries) + 1


def _training(impressions: Impressions, days: Days) -> np.ndarray:
    return (impressions.day >= days.train_from) & (impressions.day < days.valid_from)


def _quantile_edges(sample: np.ndarray, count: int) -> np.ndarray:
    """Where `count` equal shares of a sample end, taken as `prepare` takes quantiles."""
    edges = np.unique(np.sort(sample)[np.arange(1, count) * len(sample) // count])
    return edges[edges > sample.min()]


def _divided(level: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.searchsorted(np.asarray(edges), level, side="right")
