"""Noise rates from the least likely impressions, against a plain reference."""

from __future__ import annotations

import numpy as np
import pytest

from clsd_tf.noise_rates import tail_noise_rates


def reference(logits, labels, tail: float, min_rows: int) -> float:
    """Click rate of one group's tail, where its size is a whole number of rows."""
    size = int(min(max(tail * len(logits), min_rows), len(logits)))
    return float(np.mean(labels[np.argsort(logits, kind="stable")[:size]]))


def noisy_clicks(rates, rows: int = 60_000, seed: int = 0):
    """Logits of interest, and clicks of interest or of the group's noise."""
    rng = np.random.default_rng(seed)
    group = rng.integers(len(rates), size=rows)
    logits = rng.normal(-1.0, 2.0, rows)
    interest = rng.random(rows) < 1 / (1 + np.exp(-logits))
    labels = interest | (rng.random(rows) < np.asarray(rates)[group])
    return logits, labels.astype(float), group


def test_golden_value():
    # The tail is the 2 least likely of 4: one click. Pooled 1/2, which 2 further rows repeat.
    found = tail_noise_rates(
        np.array([-3.0, 2.0, -5.0, 1.0]),
        np.array([0, 1, 1, 1]),
        np.zeros(4, int),
        num_groups=1,
        tail=0.5,
        min_rows=1,
    )
    assert found.pooled == 0.5
    assert found.rates.tolist() == [0.5]
    assert 0.0 < found.low[0] < 0.5 < found.high[0] < 1.0


def test_equals_the_reference_by_group():
    logits, labels, group = noisy_clicks([0.1, 0.3])
    found = tail_noise_rates(
        logits, labels, group, num_groups=2, tail=0.02, min_rows=10, prior_rows=0
    )
    for g in range(2):
        # The last row of a tail counts by a part.
        expected = reference(logits[group == g], labels[group == g], 0.02, 10)
        assert found.rates[g] == pytest.approx(expected, abs=2e-3)


def test_finds_planted_rates():
    rates = [0.05, 0.10, 0.20, 0.35]
    found = tail_noise_rates(*noisy_clicks(rates), num_groups=4)
    np.testing.assert_allclose(found.rates, rates, atol=0.05)
    assert np.all(found.low < found.rates) and np.all(found.rates < found.high)


def test_weights_stand_for_repeated_rows():
    logits, labels, group = noisy_clicks([0.1, 0.3], rows=2_000)
    weights = np.random.default_rng(1).integers(1, 4, len(logits))
    weighted = tail_noise_rates(logits, labels, group, num_groups=2, weights=weights, tail=0.1)
    repeated = tail_noise_rates(
        *(np.repeat(column, weights) for column in (logits, labels, group)), num_groups=2, tail=0.1
    )
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_permuting_groups_permutes_rates():
    logits, labels, group = noisy_clicks([0.05, 0.1, 0.3])
    order = np.array([2, 0, 1])
    one = tail_noise_rates(logits, labels, group, num_groups=3)
    other = tail_noise_rates(logits, labels, order[group], num_groups=3)
    np.testing.assert_allclose(other.rates[order], one.rates, atol=1e-12)


def test_small_groups_are_shrunk_and_empty_ones_equal_the_pooled_rate():
    logits, labels, group = noisy_clicks([0.1, 0.1])
    small = np.flatnonzero(group == 1)[5:]
    keep = np.setdiff1d(np.arange(len(group)), small)
    labels[group == 1] = 1.0
    found = tail_noise_rates(logits[keep], labels[keep], group[keep], num_groups=3)
    assert found.rates[1] < 0.35  # all of its 5 impressions were clicked
    assert found.rates[2] == pytest.approx(found.pooled)


def test_a_tail_of_clicks_leaves_room_for_interest():
    found = tail_noise_rates(
        np.arange(10.0), np.ones(10), np.zeros(10, int), num_groups=1, min_rows=1
    )
    assert found.rates[0] == 0.99
