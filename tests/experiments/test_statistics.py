"""Intervals and shares against plain NumPy, SciPy and examples by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from clsd_tf import metrics
from experiments.statistics import (
    PairedScores,
    ResampledAUC,
    ResampledGAUC,
    difference_over_users,
    holm,
    paired_interval,
    recovered_share,
    reliability_curve,
)


def rows_of_users(num_users: int = 200, num_rows: int = 2000, seed: int = 0):
    """Labels, scores of a good and of a worse arm with ties, users."""
    generator = np.random.default_rng(seed)
    users = generator.integers(num_users, size=num_rows)
    logits = generator.normal(size=num_rows) + generator.normal(size=num_users)[users]
    labels = (generator.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(float)
    good = np.round(logits + 0.5 * generator.normal(size=num_rows), 1)
    worse = np.round(logits + 2.0 * generator.normal(size=num_rows), 1)
    return labels, good, worse, users


def test_the_interval_over_seeds_is_that_of_scipy():
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    interval = paired_interval(a - b)
    assert interval.mean == pytest.approx(np.mean(a - b))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.p == pytest.approx(expected.pvalue)


def test_a_constant_difference_has_no_width_and_no_doubt():
    interval = paired_interval([0.1, 0.1, 0.1])
    assert interval.high - interval.low < 1e-12
    assert interval.p == 0.0
    assert paired_interval([0.0, 0.0]).p == 1.0


def test_one_seed_has_no_interval():
    interval = paired_interval([0.3])
    assert interval.mean == 0.3
    assert math.isnan(interval.low) and math.isnan(interval.high) and math.isnan(interval.p)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_auc_is_that_of_the_repeated_rows(seed):
    labels, scores, _, users = rows_of_users(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=users.max() + 1)
    repeated = np.repeat(np.arange(len(labels)), weights[users])
    expected = metrics.auc(labels[repeated], scores[repeated])
    assert ResampledAUC(labels, scores, users)(weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_gauc_is_that_of_the_repeated_users(seed):
    labels, scores, _, users = rows_of_users(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, size=users.max() + 1)
    copies = [users == user for user in range(len(weights)) for _ in range(weights[user])]
    rows = np.concatenate([np.flatnonzero(copy) for copy in copies])
    names = np.repeat(np.arange(len(copies)), [copy.sum() for copy in copies])
    expected = metrics.gauc(labels[rows], scores[rows], names).value
    assert ResampledGAUC(labels, scores, users)(weights) == pytest.approx(expected, abs=1e-12)


def test_gauc_may_be_meant():
    labels, good, worse, users = rows_of_users()
    pair = PairedScores(labels, good, worse, users, within_users=True)
    interval = difference_over_users([pair], draws=50)
    expected = metrics.gauc(labels, good, users).value - metrics.gauc(labels, worse, users).value
    assert interval.mean == pytest.approx(expected)
    assert interval.low < interval.mean < interval.high


def test_resampled_auc_without_a_class_is_nan():
    labels, users = np.array([1.0, 0.0]), np.array([0, 1])
    assert math.isnan(ResampledAUC(labels, np.array([0.2, 0.1]), users)(np.array([2, 0])))


def test_the_bootstrap_is_the_plain_one():
    labels, good, worse, users = rows_of_users()
    interval = difference_over_users([PairedScores(labels, good, worse, users)], draws=200, seed=3)
    generator = np.random.default_rng(3)
    rows = {user: np.flatnonzero(users == user) for user in np.unique(users)}
    drawn = []
    for _ in range(200):
        chosen = generator.integers(len(rows), size=len(rows))
        sample = np.concatenate([rows[np.unique(users)[user]] for user in chosen])
        drawn.append(
            metrics.auc(labels[sample], good[sample]) - metrics.auc(labels[sample], worse[sample])
        )
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert interval.low < interval.mean < interval.high
    assert interval.p == pytest.approx(2 / 201)


def test_equal_arms_have_an_interval_that_contains_0():
    labels, good, _, users = rows_of_users()
    interval = difference_over_users([PairedScores(labels, good, good, users)], draws=50)
    assert interval.mean == interval.low == interval.high == 0.0
    assert interval.p == 1.0


def test_days_are_averaged_over_the_same_users():
    """Where each user has a day of good and a day of bad luck, nothing is left to chance."""
    pair = PairedScores(*rows_of_users())
    mirrored = pair._replace(scores=pair.base_scores, base_scores=pair.scores)
    interval = difference_over_users([pair, mirrored], draws=50)
    assert interval.mean == pytest.approx(0.0, abs=1e-12)
    assert interval.high - interval.low < 1e-12


def test_users_make_the_interval_wide_not_rows():
    """Each row three times, in the same users, tells nothing new."""
    pair = PairedScores(*rows_of_users())
    once = difference_over_users([pair], draws=300)
    thrice = difference_over_users(
        [PairedScores(*(np.tile(column, 3) for column in pair[:4]))], draws=300
    )
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=1e-6)


def test_a_day_of_a_log_takes_seconds():
    pair = PairedScores(*rows_of_users(num_users=20_000, num_rows=150_000))
    started = time.process_time()
    difference_over_users([pair], draws=100)
    assert time.process_time() - started < 3.0


def test_holm_by_hand():
    # Sorted .01 * 4, .02 * 3, .03 * 2, .04 * 1; the third and fourth are raised to the second.
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_counts_what_could_not_be_computed():
    assert holm([math.nan, 0.01]) == pytest.approx([math.nan, 0.02], nan_ok=True)


def test_recovered_share():
    assert recovered_share(0.7227, 0.7165, 0.7336) == pytest.approx(0.3626, abs=1e-4)
    assert recovered_share(0.71, 0.72, 0.73) == pytest.approx(-1.0)
    assert math.isnan(recovered_share(0.7, 0.71, 0.71))


def test_reliability_by_hand():
    labels = np.array([1.0, 0.0, 1.0, 0.0])
    predicted, observed = reliability_curve(labels, np.array([0.9, 0.1, 0.7, 0.3]), num_bins=2)
    assert predicted == pytest.approx([0.2, 0.8])
    assert observed == pytest.approx([0.0, 1.0])
