"""Affine calibration: optimality, known parameters, shrinkage, and refusal of bad rows."""

from __future__ import annotations

import time

import numpy as np
import pytest

from clsd_tf.calibration import check_rows, fit_affine, fit_affine_by_group


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def reference_gradient(logits, labels, scale, bias) -> np.ndarray:
    """Gradient [2] of the summed cross-entropy in (scale, bias)."""
    residual = sigmoid(scale * logits + bias) - labels
    return np.array([residual @ logits, residual.sum()])


def reference_mean_hessian(logits, scale, bias) -> np.ndarray:
    p = sigmoid(scale * logits + bias)
    features = np.stack([logits, np.ones_like(logits)])
    return (features * (p * (1 - p))) @ features.T / len(logits)


def make_rows(sizes, scales, biases, seed=0):
    """Rows of groups whose labels follow sigmoid(scale * logit + bias), in random order."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    logits = rng.normal(-1.5, 1.5, len(group))
    probability = sigmoid(np.array(scales)[group] * logits + np.array(biases)[group])
    return logits, (rng.random(len(group)) < probability).astype(np.float64), group


def test_recovers_known_parameters():
    logits, labels, _ = make_rows([200_000], [0.6], [0.4])
    np.testing.assert_allclose(fit_affine(logits, labels), (0.6, 0.4), atol=0.02)


def test_two_scores_by_hand():
    # With two distinct logits the fit passes through both rates: 1/4 at 0, 3/4 at 2 gives
    # bias = logit(1/4) = -log 3 and scale = (log 3 + log 3) / 2 = log 3.
    logits = np.repeat([0.0, 2.0], 4000)
    labels = np.tile([1, 0, 0, 0], 1000).tolist() + np.tile([1, 1, 1, 0], 1000).tolist()
    fit = fit_affine(logits, np.array(labels))
    np.testing.assert_allclose(fit, (np.log(3.0), -np.log(3.0)), rtol=1e-5)


def test_fits_are_stationary_points_of_the_stated_objective():
    logits, labels, group = make_rows([3000, 500, 40], [1.4, 0.5, 1.0], [0.0, 1.0, -1.0])
    strength = 300.0
    pooled, local = fit_affine_by_group(
        logits, labels, group, num_groups=3, prior_strength=strength
    )
    np.testing.assert_allclose(reference_gradient(logits, labels, *pooled), 0.0, atol=0.02)
    penalty = strength * reference_mean_hessian(logits, *pooled)
    for g in range(3):
        rows, fit = group == g, np.array([local.scale[g], local.bias[g]])
        gradient = reference_gradient(logits[rows], labels[rows], *fit)
        np.testing.assert_allclose(gradient + penalty @ (fit - pooled), 0.0, atol=1e-3)


def test_small_groups_shrink_toward_pooled():
    distances = []
    for size in (20, 1000, 50_000):
        rows = make_rows([50_000, size], [1.0, 0.4], [0.0, -1.5])
        pooled, local = fit_affine_by_group(*rows, num_groups=2, prior_strength=1000.0)
        distances.append(abs(local.bias[1] - pooled.bias) / abs(-1.5 - pooled.bias))
    assert distances[0] < 0.2 < distances[1] < 0.8 < distances[2]


def test_a_stronger_prior_shrinks_more():
    rows = make_rows([20_000, 2000], [1.0, 0.4], [0.0, -1.5])
    distances = []
    for strength in (10.0, 1000.0, 100_000.0):
        pooled, local = fit_affine_by_group(*rows, num_groups=2, prior_strength=strength)
        distances.append(abs(local.bias[1] - pooled.bias))
    assert distances[0] > 1.3 * distances[1] > 5.0 * distances[2]


def test_prior_counts_impressions_whatever_the_unit_of_the_logits():
    logits, labels, group = make_rows([20_000, 300], [1.0, 0.4], [0.0, -1.5])
    options = {"num_groups": 2, "prior_strength": 500.0}
    _, local = fit_affine_by_group(logits, labels, group, **options)
    _, rescaled = fit_affine_by_group(100.0 * logits + 7.0, labels, group, **options)
    np.testing.assert_allclose(100.0 * rescaled.scale, local.scale, rtol=1e-4)
    np.testing.assert_allclose(rescaled.bias + 7.0 * rescaled.scale, local.bias, rtol=1e-4)


def test_empty_and_single_groups_equal_pooled_exactly():
    logits, labels, group = make_rows([500, 500], [1.0, 0.5], [0.0, -1.0])
    pooled, local = fit_affine_by_group(
        logits, labels, 2 * group, num_groups=4, prior_strength=10.0
    )
    for empty in (1, 3):
        assert (local.scale[empty], local.bias[empty]) == pooled
    assert abs(local.bias[0] - pooled.bias) > 0.1
    pooled, local = fit_affine_by_group(
        logits, labels, 0 * group, num_groups=1, prior_strength=10.0
    )
    assert (local.scale[0], local.bias[0]) == pooled


def test_permuting_group_ids_permutes_parameters():
    logits, labels, group = make_rows([900, 300, 100], [1.0, 0.5, 1.5], [0.0, -1.0, 1.0])
    new_id = np.array([2, 0, 1])
    options = {"num_groups": 3, "prior_strength": 100.0}
    pooled, local = fit_affine_by_group(logits, labels, group, **options)
    same_pooled, permuted = fit_affine_by_group(logits, labels, new_id[group], **options)
    assert same_pooled == pooled
    np.testing.assert_array_equal(permuted.scale[new_id], local.scale)
    np.testing.assert_array_equal(permuted.bias[new_id], local.bias)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]),  # separable: the slope is unbounded
        ([-2.0, -1.0, 1.0, 2.0], [1, 1, 0, 0]),  # reversed: the slope would be negative
        ([0.7, 0.7, 0.7, 0.7], [1, 0, 0, 0]),  # constant: the slope is undetermined
        ([-1e4, -1e3, 1e3, 1e4], [1, 0, 1, 0]),
    ],
)
def test_degenerate_rows_give_a_finite_rising_function(logits, labels):
    fit = fit_affine(np.array(logits), np.array(labels))
    assert np.isfinite(fit).all()
    assert fit.scale > 0.0


def test_constant_logits_give_the_click_rate():
    fit = fit_affine(np.full(4000, 0.7), np.tile([1, 0, 0, 0], 1000))
    assert sigmoid(np.array(fit.scale * 0.7 + fit.bias)) == pytest.approx(0.25, abs=1e-5)


def test_a_group_without_clicks_is_finite():
    logits, labels, group = make_rows([2000, 500], [1.0, 1.0], [0.0, 0.0])
    labels[group == 1] = 0
    pooled, local = fit_affine_by_group(logits, labels, group, num_groups=2, prior_strength=100.0)
    assert np.isfinite(local.bias[1])
    assert local.bias[1] < pooled.bias - 0.5


def test_a_million_rows_take_seconds():
    rows = make_rows([200_000] * 5, [1.0, 0.9, 0.8, 0.7, 0.6], [0.0] * 5)
    start = time.process_time()
    fit_affine_by_group(*rows, num_groups=5, prior_strength=1000.0)
    assert time.process_time() - start < 10.0  # about 1 on an idle machine


GOOD = ([0.1, -0.2, 0.3], [1, 0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": [0.1, np.nan, 0.3]}, r"must be finite. Received: 1 of 3 .* row 1\. Drop"),
        ({"logits": [0.1, 0.2, -np.inf]}, "must be finite"),
        ({"labels": [1, 0, 0.5]}, r"must be 0 or 1. Received: 0.5 at row 2\. Pass"),
        ({"labels": [1, 1, 1]}, "needs clicks and non-clicks. Received: 3 clicks in 3 rows"),
        ({"labels": [0, 0, 0]}, "Received: 0 clicks in 3 rows"),
        ({"group": [0, 1, 2]}, r"must be in \[0, 2\). Received: 2 at row 2\. Set"),
        ({"group": [-1, 0, 0]}, r"must be in \[0, 2\). Received: -1 at row 0"),
        ({"group": [0.0, 1.0, 1.0]}, "must be integers. Received: dtype float64"),
        ({"labels": [1, 0]}, r"logits \(3,\), labels \(2,\), group \(3,\)"),
        ({"logits": [[0.1], [0.2], [0.3]]}, r"logits \(3, 1\)"),
    ],
)
def test_bad_rows_are_refused(change, message):
    rows = dict(zip(("logits", "labels", "group"), GOOD, strict=True))
    check_rows(**rows, num_groups=2)
    with pytest.raises(ValueError, match=message):
        check_rows(**(rows | change), num_groups=2)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="Received: 0 clicks in 0 rows"):
        check_rows(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), num_groups=1)
