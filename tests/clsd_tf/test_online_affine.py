"""The calibration that is learned batch by batch, against NumPy and against the fit at once."""

from __future__ import annotations

import numpy as np
import pytest

from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.online_affine import OnlineAffineConfidence

GROUPS = 3
# Of each group: slope and offset of its true click rate in the teacher's logit.
TRUTH = np.array([[1.0, 0.0], [0.5, -1.0], [1.5, 0.8]])


def impressions(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = rng.choice(GROUPS, rows, p=[0.6, 0.3, 0.1])
    z = rng.normal(-0.5, 1.0, rows).astype(np.float32)
    p = 1 / (1 + np.exp(-(TRUTH[group, 0] * z + TRUTH[group, 1])))
    return z, (rng.random(rows) < p).astype(np.float32), group


def reference(batches, num_groups: int, prior_strength: float, decay: float) -> list[np.ndarray]:
    """Parameters [1 + groups, 2] by plain NumPy in float64."""
    t = np.tile([1.0, 0.0], (1 + num_groups, 1))
    hessian, linear, count = np.zeros((1 + num_groups, 2, 2)), np.zeros((1 + num_groups, 2)), 0.0
    for z, y, group in batches:
        count = decay * count + len(z)
        for row in range(1 + num_groups):
            chosen = np.ones(len(z), bool) if row == 0 else group == row - 1
            x = np.stack([z[chosen], np.ones(chosen.sum())], axis=1).astype(np.float64)
            p = 1 / (1 + np.exp(-x @ t[row]))
            h, g = x.T @ (x * (p * (1 - p))[:, None]), x.T @ (p - y[chosen])
            hessian[row] = decay * hessian[row] + h
            linear[row] = decay * linear[row] + h @ t[row] - g
        t[0] = np.linalg.solve(hessian[0] + np.eye(2), linear[0] + [1.0, 0.0])
        penalty = prior_strength * hessian[0] / count
        for row in range(1, 1 + num_groups):
            t[row] = np.linalg.solve(hessian[row] + penalty, linear[row] + penalty @ t[0])
    return t


def learned(batches, num_groups: int = GROUPS, **options) -> np.ndarray:
    confidence = OnlineAffineConfidence(num_groups, **options)
    for batch in batches:
        confidence.update(*batch)
    return np.array([[row["scale"], row["bias"]] for row in confidence.table()])


def batches_of(rows: int, size: int = 200) -> list[tuple[np.ndarray, ...]]:
    whole = impressions(rows)
    return [tuple(a[i : i + size] for a in whole) for i in range(0, rows, size)]


def test_equals_the_reference():
    batches = batches_of(6000)
    expected = reference(batches, GROUPS, 300.0, 0.9)
    np.testing.assert_allclose(
        learned(batches, prior_strength=300.0, decay=0.9), expected, rtol=2e-3, atol=2e-3
    )


def test_comes_to_what_a_fit_at_once_finds():
    batches = batches_of(60000, 500)
    z, y, group = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    pooled, local = fit_affine_by_group(z, y, group, num_groups=GROUPS, prior_strength=1000.0)
    expected = [[pooled.scale, pooled.bias], *np.stack(local, axis=1)]
    np.testing.assert_allclose(learned(batches, decay=0.99999), expected, atol=0.03)


def test_one_group_is_the_pool_exactly_and_an_empty_one_nearly():
    z, y, _ = impressions(1000)
    pooled, local = learned([(z, y, np.zeros(1000, np.int64))] * 3, num_groups=1)
    np.testing.assert_array_equal(pooled, local)
    table = learned([(z, y, np.zeros(1000, np.int64))] * 3, num_groups=2)
    np.testing.assert_allclose(table[2], table[0], atol=1e-4)


def test_follows_a_change():
    before, after = batches_of(20000), batches_of(20000)
    after = [(z, 1 - y, group) for z, y, group in after]
    after = [(-z, y, group) for z, y, group in after]
    table = learned([*before, *after], decay=0.9)
    np.testing.assert_allclose(table, learned(after, decay=0.9), atol=1e-3)


def test_confidence_rises_with_the_score_whatever_it_saw():
    z, y, group = impressions(2000)
    table = learned([(-z, y, group)] * 5)
    assert (table[:, 0] > 0).all()
    assert np.isfinite(table).all()


def test_a_decay_out_of_range():
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\)"):
        OnlineAffineConfidence(2, decay=1.0)
