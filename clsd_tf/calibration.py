"""Affine calibration of logits against labels (Platt scaling), pooled or per group; NumPy only.

The model is P(y = 1) = sigmoid(a * z + b) with a > 0, fitted by cross-entropy, which is convex in
(a, b).
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
) -> tuple[AffineCalibration, AffineCalibration]:
    """Fits one (scale, bias) to all rows, then one per group, shrunk toward the first.

    For group g, with t = (a, b), t0 the pooled fit and H0 the Hessian of the pooled loss per row:

        t_g = argmin  sum over rows of g of CE(y, sigmoid(a z + b))
                      + prior_strength / 2 * (t - t0)' H0 (t - t0)

    To second order the penalty is the loss of `prior_strength` further impressions on which the
    pooled fit is right, so a group of that many rows goes about half of the way.

    Args:
      logits: float [rows], finite.
      labels: [rows], in {0, 1}, both present.
      group: int [rows], in [0, num_groups).
      num_groups: number of groups.
      prior_strength: in impressions, > 0.

    Returns:
      The pooled calibration and that of the groups. A group without rows, and a single group,
      equal the pooled one exactly.
    """
    mean, deviation = float(np.mean(logits)), float(np.std(logits)) or 1.0
    # Standardised logits make the problem well conditioned: z = mean + deviation * x, hence
    # a * z + b = (a * deviation) * x + (a * mean + b).
    x = (np.asarray(logits, np.float64) - mean) / deviation
    y = np.asarray(labels, np.float64)

    pooled = _minimize(x, y, _WEAK_PRIOR * np.eye(2), np.array([deviation, mean]))
    fitted = np.tile(pooled, (num_groups, 1))
    if num_groups > 1:
        penalty = prior_strength * _mean_hessian(x, pooled)
        # Small integer types are sorted by radix, in linear time.
        order = np.argsort(group.astype(np.min_scalar_type(num_groups)), kind="stable")
        x, y = x[order], y[order]
        ends = np.cumsum(np.bincount(group, minlength=num_groups))
        for g, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
            if end > start:
                fitted[g] = _minimize(x[start:end], y[start:end], penalty, pooled)

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


def _minimize(x: np.ndarray, y: np.ndarray, penalty: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Returns the slope and offset [2] of least cross-entropy with a quadratic penalty.

    Args:
      x: [rows], standardised logits.
      y: [rows], labels.
      penalty: [2, 2], positive semi-definite.
      center: [2], where the penalty is 0.
    """
    # In units of the data's own weight, so that one tolerance fits every size.
    total = len(x) + np.trace(penalty)
    clicks, clicked_x = np.sum(y), x @ y

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scores = parameters[0] * x + parameters[1]
        # CE = log(1 + exp(s)) - y s = max(s, 0) + log1p(exp(-|s|)) - y s, without overflow; the
        # same exponential gives the sigmoid.
        decayed = np.exp(-np.abs(scores))
        predicted = np.where(scores >= 0.0, 1.0, decayed) / (1.0 + decayed)
        likelihood = parameters[0] * clicked_x + parameters[1] * clicks
        value = np.sum(np.maximum(scores, 0.0) + np.log1p(decayed)) - likelihood
        gradient = np.array([x @ predicted - clicked_x, np.sum(predicted) - clicks])
        away = parameters - center
        value += 0.5 * away @ penalty @ away
        return value / total, (gradient + penalty @ away) / total

    result = optimize.minimize(
        loss,
        x0=np.maximum(center, [_MIN_SCALE, -np.inf]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_MIN_SCALE, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    return result.x


def _mean_hessian(x: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Returns the Hessian [2, 2] of the mean cross-entropy; it does not depend on labels."""
    decayed = np.exp(-np.abs(parameters[0] * x + parameters[1]))
    curvature = decayed / np.square(1.0 + decayed)  # p * (1 - p)
    moments = [np.mean(curvature * x**power) for power in (2, 1, 0)]
    return np.array([[moments[0], moments[1]], [moments[1], moments[2]]])
