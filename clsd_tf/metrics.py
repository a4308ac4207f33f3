"""Exact metrics of ranking and calibration on whole data sets, in NumPy.

Ten million rows take seconds. A metric that is not defined on its input, such as an AUC without
clicks, is nan; input that cannot be meant is a ValueError.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

# Probabilities are read as float32, whose step below 1 this is: a predicted 1.0 may stand for it.
_CLIP = 1e-7


class GroupedAUC(NamedTuple):
    """An average of AUCs over users, and how many users had one."""

    value: float
    num_users: int


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the chance that a click scores above a non-click; a tie is half.

    Args:
      labels: [rows], in {0, 1}.
      scores: float [rows]; any increasing function of them gives the same.
      weights: float [rows], >= 0: a pair of rows counts by the product. Defaults to all 1.

    Returns:
      AUC in [0, 1], or nan if a class is absent.

    Raises:
      ValueError: if shapes differ, a label is not 0 or 1, or a score is nan.

    >>> auc([0, 1, 1], [0.2, 0.9, 0.1])
    0.5
    """
    labels, scores, weights = _check(labels, scores=scores, weights=weights)
    return float(_count_pairs(labels, scores, weights).auc()[0])


def auc_by_group(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> dict[int | str, float]:
    """Returns `auc` of each group's own rows, by group; nan where a class is absent.

    Args:
      labels: [rows], in {0, 1}.
      scores: float [rows].
      groups: [rows], integers or strings.

    Raises:
      ValueError: see `auc`.
    """
    labels, scores, groups = _check(labels, scores=scores, groups=groups)
    names, segments = np.unique(groups, return_inverse=True)
    values = _count_pairs(labels, scores, None, segments, len(names)).auc()
    return dict(zip(names.tolist(), values.tolist(), strict=True))


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    users: np.ndarray,
    *,
    weighting: Literal["impressions", "clicks", "uniform"] = "impressions",
) -> GroupedAUC:
    """Average of each user's AUC over the users who have both clicks and non-clicks.

    Args:
      labels: [rows], in {0, 1}.
      scores: float [rows].
      users: [rows], integers or strings.
      weighting: what a user counts: "impressions" (arXiv 1706.06978, section 5.2), "clicks", or
        "uniform", every user the same.

    Returns:
      The average (nan if no user counts) and the number of users that count.

    Raises:
      ValueError: if `weighting` is unknown, and see `auc`.

    >>> gauc([0, 1, 1, 0, 1], [0.2, 0.9, 0.1, 0.3, 0.4], users=[7, 7, 7, 8, 8])
    GroupedAUC(value=0.7, num_users=2)
    """
    if weighting not in ("impressions", "clicks", "uniform"):
        raise ValueError(
            f"Unknown weighting of users. Received: weighting={weighting!r}. "
            "Expected one of: impressions, clicks, uniform."
        )
    labels, scores, users = _check(labels, scores=scores, users=users)
    names, segments = np.unique(users, return_inverse=True)
    pairs = _count_pairs(labels, scores, None, segments, len(names))
    aucs = pairs.auc()
    counted = ~np.isnan(aucs)
    user_weights = {
        "impressions": pairs.clicks + pairs.non_clicks,
        "clicks": pairs.clicks,
        "uniform": np.ones(len(names)),
    }[weighting][counted]
    value = _ratio(np.sum(user_weights * aucs[counted]), np.sum(user_weights))
    return GroupedAUC(value, int(np.count_nonzero(counted)))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy in nats; probabilities are clipped to [1e-7, 1 - 1e-7].

    Args:
      labels: [rows], in {0, 1}.
      probabilities: float [rows], in [0, 1].

    Raises:
      ValueError: if shapes differ, a label is not 0 or 1, or a probability is out of range.
    """
    labels, probabilities = _check(labels, probabilities=probabilities)
    clipped = np.clip(probabilities, _CLIP, 1.0 - _CLIP, dtype=np.float64)
    return _ratio(-np.sum(np.log(np.where(labels, clipped, 1.0 - clipped))), len(labels))


def normalized_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """`log_loss` over that of always predicting the click rate; below 1 is better than that.

    Source: "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, section 3.

    Returns:
      The ratio, or nan if a class is absent.

    Raises:
      ValueError: see `log_loss`.
    """
    loss = log_loss(labels, probabilities)
    rate = _ratio(np.sum(labels), np.size(labels))
    if not 0.0 < rate < 1.0:
        return float("nan")
    return loss / -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 20
) -> float:
    """Mean distance of predicted and observed click rate over bins of equal mass.

        ECE = sum over bins |sum of y - sum of p| / rows

    Rows of equal probability share a bin, so that the order of the rows does not matter.

    Args:
      labels: [rows], in {0, 1}.
      probabilities: float [rows], in [0, 1].
      num_bins: bins over the rows sorted by probability.

    Returns:
      ECE in [0, 1], or nan without rows.

    Raises:
      ValueError: if `num_bins` is below 1, and see `log_loss`.
    """
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1. Received: num_bins={num_bins}.")
    labels, probabilities = _check(labels, probabilities=probabilities)
    if not len(labels):
        return float("nan")
    order = np.argsort(probabilities)
    ordered = probabilities[order]
    # The rank of a row is that of the first row with its probability.
    first = np.append(True, ordered[1:] != ordered[:-1])
    rank = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    bins = rank * num_bins // len(ordered)
    gaps = np.bincount(bins, labels[order] - ordered.astype(np.float64), minlength=num_bins)
    return _ratio(np.sum(np.abs(gaps)), len(ordered))


def predicted_over_observed(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Sum of predicted probabilities over the number of clicks; 1 is right, nan without clicks.

    Raises:
      ValueError: see `log_loss`.
    """
    labels, probabilities = _check(labels, probabilities=probabilities)
    return _ratio(np.sum(probabilities, dtype=np.float64), np.sum(labels, dtype=np.float64))


def relative_improvement(auc_value: float, base_auc: float) -> float:
    """RelaImpr: the gain over a baseline, both measured from the 0.5 of a random ranking.

        RelaImpr = (auc - 0.5) / (base - 0.5) - 1

    Source: Yan et al., "Coupled Group Lasso for Web-Scale CTR Prediction in Display Advertising",
    ICML 2014.

    Returns:
      A fraction (0.01 is 1 %), or nan if the baseline is 0.5.
    """
    return _ratio(auc_value - 0.5, base_auc - 0.5) - 1.0


class _PairCounts(NamedTuple):
    """Weights of clicks, of non-clicks and of pairs in the right order, float64 [segments]."""

    clicks: np.ndarray
    non_clicks: np.ndarray
    wins: np.ndarray

    def auc(self) -> np.ndarray:
        pairs = self.clicks * self.non_clicks
        return np.divide(self.wins, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0.0)


def _count_pairs(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None,
    segments: np.ndarray | None = None,
    num_segments: int = 1,
) -> _PairCounts:
    """Counts, within each segment, pairs of a click and a non-click of lower score; ties half."""
    if not len(labels):
        zeros = np.zeros(num_segments)
        return _PairCounts(zeros, zeros, zeros)
    order = np.argsort(scores)
    if segments is None:
        segments = np.zeros(len(labels), np.uint8)
    else:
        # Small integer types are sorted by radix, in linear time.
        segments = segments.astype(np.min_scalar_type(num_segments))
        order = order[np.argsort(segments[order], kind="stable")]
    labels, scores, segments = labels[order], scores[order], segments[order]
    row_weights = np.ones(len(labels)) if weights is None else weights[order].astype(np.float64)

    # A block is a run of rows of one segment and one score: ties, among which order means nothing.
    changes = (scores[1:] != scores[:-1]) | (segments[1:] != segments[:-1])
    starts = np.flatnonzero(np.append(True, changes))
    block_segments = segments[starts]
    clicks = np.add.reduceat(np.where(labels, row_weights, 0.0), starts)
    non_clicks = np.add.reduceat(np.where(labels, 0.0, row_weights), starts)

    def per_segment(values: np.ndarray) -> np.ndarray:
        return np.bincount(block_segments, values, minlength=num_segments)

    segment_non_clicks = per_segment(non_clicks)
    below = np.cumsum(non_clicks) - non_clicks
    below = below - (np.cumsum(segment_non_clicks) - segment_non_clicks)[block_segments]
    return _PairCounts(
        clicks=per_segment(clicks),
        non_clicks=segment_non_clicks,
        wins=per_segment(clicks * (below + 0.5 * non_clicks)),
    )


def _check(labels: np.ndarray, **columns: np.ndarray | None) -> list[np.ndarray]:
    """Returns labels as bool and the columns as arrays, or says what is wrong with them."""
    arrays = {name: None if c is None else np.asarray(c) for name, c in columns.items()}
    labels = np.asarray(labels)
    shapes = {"labels": labels.shape} | {n: a.shape for n, a in arrays.items() if a is not None}
    if labels.ndim != 1 or len(set(shapes.values())) > 1:
        raise ValueError(
            "Metrics take arrays of one row each. Received shapes: "
            f"{', '.join(f'{name} {shape}' for name, shape in shapes.items())}. "
            "Expected: [rows] for all. Flatten what has more axes."
        )
    clicks = labels == 1
    if not (clicks | (labels == 0)).all():
        wrong = np.argmin(clicks | (labels == 0))
        raise ValueError(
            f"Labels must be 0 or 1. Received: {labels[wrong]} at row {wrong}. "
            "Threshold soft labels before they are evaluated against."
        )
    for name, least, most in (
        ("scores", -np.inf, np.inf),
        ("weights", 0.0, np.inf),
        ("probabilities", 0.0, 1.0),
    ):
        array = arrays.get(name)
        if array is None or not array.size:
            continue
        # nan fails every comparison.
        if not (array.min() >= least and array.max() <= most):
            inside = (array >= least) & (array <= most)
            wrong = np.argmin(inside)
            raise ValueError(
                f"`{name}` must be numbers in [{least}, {most}]. Received: {array[wrong]} at row "
                f"{wrong}, and {np.count_nonzero(~inside)} such rows in all. Drop these rows, or "
                "mend what produced them."
            )
    return [clicks, *arrays.values()]


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")
