"""Affine calibration of logits against labels (Platt scaling), pooled or per group; NumPy only.

The model is P(y = 1) = e + (1 - e) * sigmoid(a * z + b) with a > 0 and a known floor e, 0 unless
clicks occur without interest. It is fitted by cross-entropy, which is convex in (a, b) for e = 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize

# The least slope, per standard deviation of the logits: confidence must rise with the score.
_MIN_SCALE = 1e-3
# A prior toward a = 1, b = 0 that weighs a thousandth of an impression. It only matters where the
# data leave (a, b) open: classes that a threshold separates, or logits that are all equal.
_WEAK_PRIOR = 1e-3


class AffineCalibration(NamedTuple):
    """sigmoid(scale * logit + bias); floats, or arrays [num_groups]."""

    scale: float | np.ndarray
    bias: float | np.ndarray


def fit_affine(logits: np.ndarray, labels: np.ndarray) -> AffineCalibration:
    """Fits one (scale, bias) to all rows.

    Args:
      logits: float [rows], finite.
      labels: [rows], in {0, 1}, both present.

    Returns:
      Two floats, scale > 0.

    Raises:
      ValueError: if the rows do not allow a fit (see `check_rows`).
    """
    logits, labels, group = check_rows(logits, labels, np.zeros(np.shape(logits), np.int64), 1)
    pooled, _ = fit_affine_by_group(logits, labels, group, num_groups=1, prior_strength=1.0)
    return pooled


def fit_affine_by_group(
    logits: np.ndarray,
    labels: np.ndarray,
    group: np.ndarray,
    *,
    num_groups: int,
    prior_strength: float,
    weights: np.ndarray | None = None,
    floors: np.ndarray | None = None,
) -> tuple[AffineCalibration, AffineCalibration]:
    """Fits one (scale, bias) to all rows, then one per group, shrunk toward the first.

    For group g, with t = (a, b), t0 the pooled fit and H0 the Hessian of the pooled loss per row:

        t_g = argmin  sum over rows of g of CE(y, e_g + (1 - e_g) sigmoid(a z + b))
                      + prior_strength / 2 * (t - t0)' H0 (t - t0)

    To second order the penalty is the loss of `prior_strength` further impressions on which the
    pooled fit is right, so a group of that many rows goes about half of the way.

    Args:
      logits: float [rows], finite.
      labels: [rows], in {0, 1}, both present.
      group: int [rows], in [0, num_groups).
      num_groups: number of groups.
      prior_strength: in impressions, > 0.
      weights: float [rows], impressions that a row stands for; None: one each.
      floors: e, float [1 + num_groups], in [0, 1): pooled, then of each group; None: all 0.

    Returns:
      The pooled calibration and that of the groups. A group without rows, and a single group,
      equal the pooled one exactly.
    """
    w = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    floors = np.zeros(1 + num_groups) if floors is None else np.asarray(floors, np.float64)
    mean = float(np.average(logits, weights=w))
    deviation = float(np.average((logits - mean) ** 2, weights=w)) ** 0.5 or 1.0
    # Standardised logits make the problem well conditioned: z = mean + deviation * x, hence
    # a * z + b = (a * deviation) * x + (a * mean + b).
    x = (np.asarray(logits, np.float64) - mean) / deviation
    y = np.asarray(labels, np.float64)

    all_rows = _Rows(x, y, w, floors[0])
    pooled = _minimize(all_rows, _WEAK_PRIOR * np.eye(2), np.array([deviation, mean]))
    fitted = np.tile(pooled, (num_groups, 1))
    if num_groups > 1:
        penalty = prior_strength * _mean_information(all_rows, pooled)
        # Small integer types are sorted by radix, in linear time.
        order = np.argsort(group.astype(np.min_scalar_type(num_groups)), kind="stable")
        x, y, w = x[order], y[order], w[order]
        ends = np.cumsum(np.bincount(group, minlength=num_groups))
        for g, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
            if end > start:
                rows = _Rows(x[start:end], y[start:end], w[start:end], floors[1 + g])
                fitted[g] = _minimize(rows, penalty, pooled)

    def unstandardised(parameters: np.ndarray) -> AffineCalibration:
        scale = parameters[..., 0] / deviation
        return AffineCalibration(scale, parameters[..., 1] - scale * mean)

    pooled_fit, group_fit = unstandardised(pooled), unstandardised(fitted)
    return AffineCalibration(float(pooled_fit.scale), float(pooled_fit.bias)), group_fit


def check_rows(
    logits: np.ndarray, labels: np.ndarray, group: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checks rows that a calibration is to be fitted to.

    Args:
      logits: float [rows].
      labels: [rows].
      group: int [rows].
      num_groups: number of groups.

    Returns:
      logits and labels as float64, group as int64.

    Raises:
      ValueError: if the shapes differ, a logit is not finite, a label is not 0 or 1, a group is
        out of range, or only one class is present.
    """
    logits, labels, group = np.asarray(logits), np.asarray(labels), np.asarray(group)
    if not logits.ndim == 1 or not logits.shape == labels.shape == group.shape:
        raise ValueError(
            "Logits, labels and groups must be arrays of one row each. Received shapes: logits "
            f"{logits.shape}, labels {labels.shape}, group {group.shape}. "
            "Expected: three times [rows]. Flatten what has more axes."
        )
    logits, labels = logits.astype(np.float64), labels.astype(np.float64)
    finite = np.isfinite(logits)
    if not finite.all():
        raise ValueError(
            "Logits must be finite. Received: "
            f"{np.count_nonzero(~finite)} of {len(logits)} are not, the first at row "
            f"{np.argmin(finite)}. Drop these rows, or find out where the teacher diverged."
        )
    binary = (labels == 0.0) | (labels == 1.0)
    if not binary.all():
        raise ValueError(
            f"Labels must be 0 or 1. Received: {labels[np.argmin(binary)]} at row "
            f"{np.argmin(binary)}. Pass the clicks as logged, not soft labels or weights."
        )
    if not np.issubdtype(group.dtype, np.integer):
        raise ValueError(
            f"Groups must be integers. Received: dtype {group.dtype}. Expected: ids in "
            f"[0, {num_groups})."
        )
    inside = (group >= 0) & (group < num_groups)
    if not inside.all():
        raise ValueError(
            f"Groups must be in [0, {num_groups}). Received: {group[np.argmin(inside)]} at row "
            f"{np.argmin(inside)}. Set `num_groups` to the number of groups in the log."
        )
    num_clicks = np.count_nonzero(labels)
    if num_clicks in (0, len(labels)):
        raise ValueError(
            "A calibration needs clicks and non-clicks. Received: "
            f"{num_clicks} clicks in {len(labels)} rows. Pass more rows, or rows of another day."
        )
    return logits, labels, group.astype(np.int64)


class _Rows(NamedTuple):
    """Standardised logits, labels and weights, [rows] each, and the floor of the click rate."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    floor: float


def _minimize(rows: _Rows, penalty: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Returns the slope and offset [2] of least cross-entropy with a quadratic penalty.

    Args:
      rows: to fit.
      penalty: [2, 2], positive semi-definite.
      center: [2], where the penalty is 0.
    """
    x, y, w, floor = rows
    # In units of the data's own weight, so that one tolerance fits every size.
    total = np.sum(w) + np.trace(penalty)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scores = parameters[0] * x + parameters[1]
        # log(1 + exp(s)) = max(s, 0) + log1p(exp(-|s|)), without overflow; the same exponential
        # gives the sigmoid p. The click rate e + (1 - e) p is (e + (1 - e) / (1 + exp(-s))), or
        # (e + exp(s)) / (1 + exp(s)): its logarithm is that of e + exp(s), less the first.
        decayed = np.exp(-np.abs(scores))
        predicted = np.where(scores >= 0.0, 1.0, decayed) / (1.0 + decayed)
        softplus = np.maximum(scores, 0.0) + np.log1p(decayed)
        lifted = scores if floor == 0.0 else np.logaddexp(np.log(floor), scores)
        # Derivative of log(e + exp(s)): the share of interest in the click.
        share = np.exp(scores - lifted)
        value = w @ (softplus - y * lifted)
        slope = w * (predicted - y * share)
        away = parameters - center
        gradient = np.array([x @ slope, np.sum(slope)]) + penalty @ away
        return (value + 0.5 * away @ penalty @ away) / total, gradient / total

    result = optimize.minimize(
        loss,
        x0=np.maximum(center, [_MIN_SCALE, -np.inf]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_MIN_SCALE, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    return result.x


def _mean_information(rows: _Rows, parameters: np.ndarray) -> np.ndarray:
    """Returns the expected Hessian [2, 2] of the mean cross-entropy; labels do not matter."""
    x, w, floor = rows.x, rows.w, rows.floor
    scores = parameters[0] * x + parameters[1]
    decayed = np.exp(-np.abs(scores))  # which does not overflow, whatever the scores
    curvature = decayed / np.square(1.0 + decayed)  # p * (1 - p)
    if floor:
        # (dq/ds)^2 / (q (1 - q)) with q = e + (1 - e) p and dq/ds = (1 - e) p (1 - p):
        # p (1 - p) times the share of interest (1 - e) p / q.
        predicted = np.where(scores >= 0.0, 1.0, decayed) / (1.0 + decayed)
        curvature *= (1.0 - floor) * predicted / (floor + (1.0 - floor) * predicted)
    moments = [np.average(curvature * x**power, weights=w) for power in (2, 1, 0)]
    return np.array([[moments[0], moments[1]], [moments[1], moments[2]]])
