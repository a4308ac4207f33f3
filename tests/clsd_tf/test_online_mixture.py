"""Noise rates and calibration that are learned batch by batch, against those found at once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.histograms import bin_centers, click_histogram
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.noise_rates import tail_noise_rates
from clsd_tf.online_mixture import OnlineMixtureConfidence, tail_rates

GROUPS, BINS = 3, 256
RATES = np.array([0.05, 0.2, 0.4])
OPTIONS = {"num_bins": BINS, "min_rows": 50.0}


def impressions(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, clicks and groups, with interest sigmoid(z - 1) and noise of the group."""
    rng = np.random.default_rng(seed)
    group = rng.choice(GROUPS, rows, p=[0.5, 0.3, 0.2])
    z = rng.normal(-2.0, 2.5, rows).astype(np.float32)
    p = 1 / (1 + np.exp(1.0 - z))
    clicked = rng.random(rows) < RATES[group] + (1 - RATES[group]) * p
    return z, clicked.astype(np.float32), group


def learn(batches, num_groups: int = GROUPS, **options) -> OnlineMixtureConfidence:
    confidence = OnlineMixtureConfidence(num_groups, **{**OPTIONS, **options})
    update = tf.function(confidence.update, reduce_retracing=True)
    for batch in batches:
        update(*map(tf.constant, batch))
    return confidence


def batches_of(rows: int, size: int) -> list[tuple[np.ndarray, ...]]:
    whole = impressions(rows)
    return [tuple(a[i : i + size] for a in whole) for i in range(0, rows, size)]


def weighted_rows(batches, decay: float) -> tuple[np.ndarray, ...]:
    """Bins as rows: logits, labels, groups and effective weights, by plain NumPy."""
    counts, squares = np.zeros((GROUPS, BINS, 2)), 0.0
    for t, (z, y, group) in enumerate(batches, start=1):
        d = min(decay, 1 - 1 / t)
        bins = np.clip((z / 16 + 1) * (0.5 * BINS), 0, BINS - 1).astype(int)
        counts, squares = d * counts, d * d * squares + len(z)
        np.add.at(counts, (group, bins, y.astype(int)), 1)
    counts *= counts.sum() / squares
    groups, bins, labels = np.nonzero(counts)
    return bin_centers(BINS)[bins], labels, groups, counts[groups, bins, labels]


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_comes_to_the_rates_and_the_fit_of_its_histogram(decay):
    batches = batches_of(24_000, 600)
    confidence = learn(batches, relative=False, decay=decay)
    z, y, group, weights = weighted_rows(batches, decay)
    found = tail_noise_rates(
        z, y, group, num_groups=GROUPS, weights=weights, min_rows=50.0, tail=0.01
    )
    np.testing.assert_allclose(confidence.noise_rates, found.rates, rtol=1e-3)
    np.testing.assert_allclose(confidence.pooled_rate, [found.pooled], rtol=1e-3)
    pooled, local = fit_affine_by_group(
        z,
        y,
        group,
        num_groups=GROUPS,
        prior_strength=1000.0,
        weights=weights,
        floors=np.concatenate([[found.pooled], found.rates]),
    )
    table = confidence.table()
    for row, scale, bias in zip(
        table, [pooled.scale, *local.scale], [pooled.bias, *local.bias], strict=True
    ):
        assert (row["scale"], row["bias"]) == pytest.approx((scale, bias), abs=0.03)
    for row, rate, low, high in zip(table[1:], found.rates, found.low, found.high, strict=True):
        told = [row[name] for name in ("noise_rate", "noise_rate_low", "noise_rate_high")]
        assert told == pytest.approx([rate, low, high], rel=1e-3)


def test_equals_the_function_that_is_fitted_at_once():
    batches = batches_of(24_000, 600)
    online = learn(batches)
    at_once = MixtureConfidence(GROUPS, min_rows=50.0)
    z, y, group, weights = weighted_rows(batches, 0.999)
    at_once.fit_held_out(z, y, group, weights)
    logits, groups = (
        np.tile(np.linspace(-5, 3, 9, dtype=np.float32), GROUPS),
        np.repeat([0, 1, 2], 9),
    )
    for one, other in zip(online(logits, groups), at_once(logits, groups), strict=True):
        np.testing.assert_allclose(one, other, atol=0.025)  # one step for each batch lags a little
    assert online.noise_rates.numpy().min() == 0.0  # relative to the least noisy group
    assert 0.2 < online.noise_rates.numpy()[2] < 0.5


def test_rates_in_a_graph_are_those_of_numpy():
    z, y, group = impressions(5_000, seed=1)
    counts = click_histogram(y, z, group, num_groups=GROUPS + 1, num_bins=BINS)  # one is empty
    cells, bins, labels = np.nonzero(counts.numpy())
    for prior_rows in (0.0, 20.0):
        pooled, rates = tail_rates(counts, 0.02, 40.0, prior_rows)
        expected = tail_noise_rates(
            bin_centers(BINS)[bins],
            labels,
            cells,
            num_groups=GROUPS + 1,
            weights=counts.numpy()[cells, bins, labels],
            tail=0.02,
            min_rows=40.0,
            prior_rows=max(prior_rows, 1e-9),
        )
        np.testing.assert_allclose(pooled, [expected.pooled], rtol=1e-5)
        np.testing.assert_allclose(rates, expected.rates, rtol=1e-5)


def test_one_group_is_the_pool_exactly():
    z, y, _ = impressions(4_000)
    confidence = learn([(z, y, np.zeros(4_000, np.int64))] * 3, num_groups=1)
    pooled, local = confidence(z, np.zeros(4_000, np.int64))
    np.testing.assert_array_equal(pooled, local)
    np.testing.assert_array_equal(confidence.noise_rates, confidence.pooled_rate)


def test_known_rates_are_used():
    confidence = learn(batches_of(6_000, 600), rates=RATES.tolist())
    np.testing.assert_allclose(confidence.noise_rates, RATES, rtol=1e-6)
    assert [row["noise_rate"] for row in confidence.table()[1:]] == pytest.approx(RATES)


def test_stays_sane_whatever_it_sees():
    z, y, group = impressions(600)
    ones, none = np.ones_like(y), np.zeros_like(y)
    odd = [
        (z, ones, group),
        (z, none, group),
        (-z, y, group),
        (0 * z, y, group),
        (50 * z, y, group),
    ]
    confidence = learn([*odd, *odd], decay=0.5)
    told = confidence(z, group)
    assert all(np.isfinite(c).all() and (c.numpy() > 0).all() for c in told)
    assert all(row["scale"] > 0 for row in confidence.table())


def test_a_table_before_the_first_batch():
    table = OnlineMixtureConfidence(2).table(["a", "b"])
    assert [row["group"] for row in table] == ["pooled", "a", "b"]
    assert all(row["rows"] == 0.0 for row in table)


def test_a_decay_out_of_range():
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\)"):
        OnlineMixtureConfidence(2, decay=1.0)
