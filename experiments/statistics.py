"""What a difference between two arms is worth: intervals over seeds and over users.

Seeds tell how far training is luck, users how far the judged day is. A difference that holds needs
both: two seeds of one day can agree to four digits on what the next day takes back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from clsd_tf import metrics


@dataclasses.dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval and two-sided p-value; nan where there is none.

    Attributes:
      mean: the estimate.
      low: lower end.
      high: upper end.
      p: chance of at least such a difference if there were none.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_interval(differences: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean of paired differences, one a seed.

    With one seed there is an estimate and no interval. Differences that are all the same have an
    interval of no width.

    Args:
      differences: [seeds].
      level: coverage of the interval, in (0, 1).
    """
    values = np.asarray(differences, np.float64)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan, np.nan)
    error = float(stats.sem(values))
    if error <= np.finfo(np.float64).eps * abs(mean):
        return Interval(mean, mean, mean, float(mean == 0.0))
    freedom = len(values) - 1
    reach = float(stats.t.ppf((1.0 + level) / 2.0, freedom)) * error
    p = 2.0 * float(stats.t.sf(abs(mean) / error, freedom))
    return Interval(mean, mean - reach, mean + reach, p)


class ResampledAUC:
    """AUC of the same rows under many weightings of their users, each in O(rows).

    Rows are sorted once. A click is worth the weight of the non-clicks below it, which is read off
    their running sum at two places that never change: where the scores below it end, and where
    those equal to it do.

        AUC = sum over clicks w_i (below_i + up_to_i) / 2 / (weight of clicks * of non-clicks)

    Args:
      labels: [rows], in {0, 1}.
      scores: float [rows].
      users: [rows], integers in [0, number of users).
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, users: np.ndarray):
        """See the class."""
        clicks, others = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
        # Clicks in order as well: reads of the running sum then go from left to right.
        clicks, others = (rows[np.argsort(scores[rows])] for rows in (clicks, others))
        self._click_users, self._other_users = users[clicks], users[others]
        self._below = np.searchsorted(scores[others], scores[clicks], "left")
        self._up_to = np.searchsorted(scores[others], scores[clicks], "right")

    def __call__(self, weights: np.ndarray) -> float:
        """AUC with user u counted `weights[u]` times; nan if a class is left out."""
        clicks = weights[self._click_users]
        running = np.append(0, np.cumsum(weights[self._other_users]))
        pairs = float(clicks.sum()) * float(running[-1])
        wins = clicks @ (running[self._below] + running[self._up_to]) / 2.0
        return float(wins / pairs) if pairs else float("nan")


class ResampledGAUC:
    """GAUC (see `clsd_tf.metrics.gauc`) of the same rows under many weightings of their users.

    A user's own AUC stays what it is; only how often it counts changes.

    Args:
      labels: [rows], in {0, 1}.
      scores: float [rows].
      users: [rows], integers in [0, number of users).
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, users: np.ndarray):
        """See the class."""
        by_user = metrics.auc_by_group(labels, scores, users)
        numbers, aucs = np.array(list(by_user)), np.array(list(by_user.values()))
        counted = ~np.isnan(aucs)
        self._users, self._aucs = numbers[counted], aucs[counted]
        self._rows = np.bincount(users)[self._users]

    def __call__(self, weights: np.ndarray) -> float:
        """GAUC with user u counted `weights[u]` times; nan if no user counts."""
        rows = weights[self._users] * self._rows
        total = float(rows.sum())
        return float(rows @ self._aucs / total) if total else float("nan")


class PairedScores(NamedTuple):
    """The same rows scored by two arms; [rows] each.

    Attributes:
      labels: in {0, 1}.
      scores: of the arm.
      base_scores: of the arm that it is compared with.
      users: integers or strings.
      within_users: whether GAUC is meant, not AUC.
    """

    labels: np.ndarray
    scores: np.ndarray
    base_scores: np.ndarray
    users: np.ndarray
    within_users: bool = False


def difference_over_users(
    pairs: Sequence[PairedScores], *, draws: int = 1000, seed: int = 0
) -> Interval:
    """Difference of AUC or GAUC, averaged over `pairs`, with a paired bootstrap over users.

    Users are drawn with replacement, each with all of their rows in all of `pairs`; both scorings
    are judged on the same draw. The interval is that of the 2.5th and 97.5th percentiles, p twice
    the smaller share of draws on one side of 0. 150,000 rows and 1000 draws take seconds.

    Args:
      pairs: one for each judged set of rows: one split, or the days of rolling origins.
      draws: bootstrap samples.
      seed: of the draws: the same for each two arms, so that they are judged on the same users.
    """
    names, numbers = np.unique(np.concatenate([p.users for p in pairs]), return_inverse=True)
    parts = np.split(numbers, np.cumsum([len(pair.users) for pair in pairs])[:-1])
    arms = []
    for pair, users in zip(pairs, parts, strict=True):
        resampled = ResampledGAUC if pair.within_users else ResampledAUC
        both = (pair.scores, pair.base_scores)
        arms.append([resampled(pair.labels, scores, users) for scores in both])

    def difference(weights: np.ndarray) -> float:
        return float(np.mean([arm(weights) - base(weights) for arm, base in arms]))

    mean = difference(np.ones(len(names), np.int64))
    generator = np.random.default_rng(seed)
    drawn = np.empty(draws)
    for draw in range(draws):
        chosen = generator.integers(len(names), size=len(names))
        weights = np.bincount(chosen, minlength=len(names))
        drawn[draw] = difference(weights)
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(mean, np.nan, np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    # A draw counts as at least as far as itself: p is never 0.
    side = min(np.count_nonzero(drawn <= 0.0), np.count_nonzero(drawn >= 0.0))
    p = min(1.0, 2.0 * (side + 1) / (len(drawn) + 1))
    return Interval(mean, float(low), float(high), p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for how many there are, by Holm's step-down method.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. The smallest of m
    is multiplied by m, the next by m - 1, and so on; none falls below the one before it. A nan
    stays nan and still counts as one of m: that it could not be computed made it no less declared.

    Args:
      p_values: [contrasts].
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)  # nan comes last
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def recovered_share(value: float, noisy: float, clean: float) -> float:
    """Share of what noise cost that a method wins back: (value - noisy) / (clean - noisy).

    Args:
      value: metric of the method on the noisy log.
      noisy: of plain training on the noisy log.
      clean: of plain training on the clean log.

    Returns:
      1 if all is won back; nan if noise cost nothing, since there is nothing to win back then.
    """
    cost = clean - noisy
    return (value - noisy) / cost if cost > 0.0 else float("nan")


def reliability_curve(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Mean predicted and observed click rate in bins of equal mass, from low to high.

    Args:
      labels: [rows], in {0, 1}; at least one row.
      probabilities: float [rows], in [0, 1].
      num_bins: at most; there are no more bins than rows.

    Returns:
      Predicted and observed, float64 [bins] each.
    """
    bins = np.array_split(np.argsort(probabilities, kind="stable"), min(num_bins, len(labels)))
    means = [(np.mean(probabilities[rows]), np.mean(labels[rows])) for rows in bins]
    predicted, observed = np.array(means, np.float64).T
    return predicted, observed
