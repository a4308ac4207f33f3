"""Takes a group's noise rate out of predicted click rates, after training."""

from __future__ import annotations

import numpy as np


def remove_group_offset(
    probabilities: np.ndarray, groups: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """Chance of interest, if a group clicks at its noise rate on what it has no interest in.

        p <- (p - e_g) / (1 - e_g),  and 0 where p < e_g

    The inverse of P(click) = e_g + (1 - e_g) * P(interest). Within a group the order stays, ties at
    0 aside. A control, this project's own: what it gains needs no student.

    Args:
      probabilities: predicted click rates, float [rows], in [0, 1].
      groups: int [rows], in [0, num_groups).
      rates: e, float [num_groups], in [0, 1).

    Returns:
      float64 [rows], in [0, 1].

    Raises:
      ValueError: a value is out of range, or shapes differ.

    >>> remove_group_offset([0.6, 0.6, 0.1], [0, 1, 1], [0.0, 0.2]).round(3).tolist()
    [0.6, 0.5, 0.0]
    """
    probabilities = np.asarray(probabilities, np.float64)
    groups, rates = np.asarray(groups), np.asarray(rates, np.float64)
    if probabilities.shape != groups.shape or probabilities.ndim != 1 or rates.ndim != 1:
        raise ValueError(
            "`probabilities` and `groups` must be [rows], `rates` [num_groups]. Received: "
            f"{probabilities.shape}, {groups.shape}, {rates.shape}."
        )
    if not np.all((rates >= 0.0) & (rates < 1.0)):
        raise ValueError(f"`rates` must be in [0, 1). Received: rates={rates.tolist()}.")
    if groups.size and not 0 <= groups.min() <= groups.max() < rates.size:
        raise ValueError(
            f"`groups` must be in [0, {rates.size}), one rate for each. Received: "
            f"{groups.min()} to {groups.max()}."
        )
    of_row = rates[groups]
    return np.clip((probabilities - of_row) / (1.0 - of_row), 0.0, 1.0)
