"""Exact metrics against loops over pairs, hand-worked values, and invariances."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from clsd_tf import metrics


def reference_auc(labels, scores, weights=None) -> float:
    """A loop over all pairs of a click and a non-click."""
    weights = np.ones(len(labels)) if weights is None else weights
    wins = pairs = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pair = weights[i] * weights[j]
            pairs += pair
            wins += pair * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return wins / pairs if pairs else float("nan")


def reference_gauc(labels, scores, users, weighting) -> tuple[float, int]:
    total = weight = count = 0.0
    for user in sorted(set(users.tolist())):
        rows = users == user
        value = reference_auc(labels[rows], scores[rows])
        if not math.isnan(value):
            of_user = {
                "impressions": rows.sum(),
                "clicks": labels[rows].sum(),
                "uniform": 1,
            }[weighting]
            total, weight, count = total + of_user * value, weight + of_user, count + 1
    return (total / weight if weight else float("nan")), count


def reference_log_loss(labels, probabilities) -> float:
    terms = [
        -math.log(p) if y else -math.log(1 - p) for y, p in zip(labels, probabilities, strict=True)
    ]
    return sum(terms) / len(terms)


@pytest.fixture
def rows():
    """Labels, scores with many ties, users (some with one class only), probabilities, weights."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 60, 300)
    scores = np.round(rng.normal(size=300) + 0.02 * users, 1)
    labels = (rng.random(300) < 1 / (1 + np.exp(1 - scores))).astype(np.int64)
    probabilities = np.round(rng.uniform(0.01, 0.99, 300), 2)
    return labels, scores, users, probabilities, rng.uniform(0, 3, 300)


class TestAUC:
    def test_equals_the_pairs(self, rows):
        labels, scores, _, _, weights = rows
        assert len(set(scores)) < 100
        assert metrics.auc(labels, scores) == pytest.approx(
            reference_auc(labels, scores), abs=1e-12
        )
        expected = reference_auc(labels, scores, weights)
        assert metrics.auc(labels, scores, weights) == pytest.approx(expected, abs=1e-12)
        assert abs(expected - reference_auc(labels, scores)) > 1e-3

    @pytest.mark.parametrize(
        ("labels", "scores", "expected"),
        [
            ([0, 1], [1.0, 2.0], 1.0),
            ([1, 0], [1.0, 2.0], 0.0),
            ([1, 0, 0, 1], [3.0, 3.0, 3.0, 3.0], 0.5),
            # Clicks at 2 and 4, non-clicks at 1, 2, 5: (1 + 1/2 + 0 + 1 + 1 + 0) / 6.
            ([0, 1, 0, 1, 0], [1.0, 2.0, 2.0, 4.0, 5.0], 3.5 / 6),
            ([0, 1], [-math.inf, math.inf], 1.0),
        ],
    )
    def test_by_hand(self, labels, scores, expected):
        assert metrics.auc(labels, scores) == pytest.approx(expected, abs=1e-15)

    @pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
    def test_is_nan_without_both_classes(self, labels):
        assert math.isnan(metrics.auc(np.array(labels), np.zeros(len(labels))))

    def test_invariances(self, rows):
        labels, scores, _, _, weights = rows
        value = metrics.auc(labels, scores, weights)
        order = np.random.default_rng(1).permutation(len(labels))
        shuffled = metrics.auc(labels[order], scores[order], weights[order])
        assert shuffled == pytest.approx(value, abs=1e-12)
        assert metrics.auc(labels, np.exp(scores), weights) == pytest.approx(value, abs=1e-12)
        assert metrics.auc(labels, -scores, weights) == pytest.approx(1 - value, abs=1e-12)
        assert metrics.auc(1 - labels, scores, weights) == pytest.approx(1 - value, abs=1e-12)

    def test_weight_zero_equals_the_subset_and_weight_two_a_copy(self, rows):
        labels, scores, users, _, _ = rows
        kept = users < 30
        masked = metrics.auc(labels, scores, kept.astype(np.float64))
        assert masked == pytest.approx(metrics.auc(labels[kept], scores[kept]), abs=1e-12)
        twice = [np.concatenate([column, column[kept]]) for column in (labels, scores)]
        assert metrics.auc(labels, scores, 1.0 + kept) == pytest.approx(metrics.auc(*twice))

    def test_by_group_equals_each_group_alone(self, rows):
        labels, scores, users, _, _ = rows
        labels = np.where(users == 3, 0, labels)
        values = metrics.auc_by_group(labels, scores, users)
        assert list(values) == sorted(set(users.tolist()))
        for user, value in values.items():
            expected = reference_auc(labels[users == user], scores[users == user])
            assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert math.isnan(values[3])

    def test_groups_may_be_strings(self):
        values = metrics.auc_by_group([0, 1, 0, 1], [1.0, 2.0, 2.0, 1.0], ["b", "b", "a", "a"])
        assert values == {"a": 0.0, "b": 1.0}

    def test_a_million_rows_take_seconds(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.integers(0, 2, 1_000_000), rng.normal(size=1_000_000)
        users = rng.integers(0, 50_000, 1_000_000)
        start = time.process_time()
        metrics.auc(labels, scores)
        metrics.gauc(labels, scores, users)
        assert time.process_time() - start < 10.0  # about 0.7 on an idle machine


class TestGAUC:
    @pytest.mark.parametrize("weighting", ["impressions", "clicks", "uniform"])
    def test_equals_the_loop_over_users(self, rows, weighting):
        labels, scores, users, _, _ = rows
        received = metrics.gauc(labels, scores, users, weighting=weighting)
        value, num_users = reference_gauc(labels, scores, users, weighting)
        assert received.value == pytest.approx(value, abs=1e-12)
        assert received.num_users == num_users < len(set(users.tolist()))

    def test_definitions_differ_by_hand(self):
        # User a: 3 impressions, 1 click, AUC 1. User b: 3 impressions, 2 clicks, AUC 0.
        # User c: 4 impressions, 1 click, AUC 2/3. User d: clicks only, does not count.
        users = np.array(list("aaabbbccccdd"))
        labels = np.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1])
        scores = np.array([9.0, 1, 2, 1, 2, 3, 5, 1, 2, 6, 1, 2])
        expected = {
            "impressions": (3 * 1 + 3 * 0 + 4 * 2 / 3) / 10,
            "clicks": (1 * 1 + 2 * 0 + 1 * 2 / 3) / 4,
            "uniform": (1 + 0 + 2 / 3) / 3,
        }
        for weighting, value in expected.items():
            received = metrics.gauc(labels, scores, users, weighting=weighting)
            assert received.value == pytest.approx(value, abs=1e-15)
            assert received.num_users == 3

    def test_does_not_see_what_is_between_users(self, rows):
        labels, scores, users, _, _ = rows
        shifted = scores + 100.0 * users
        assert metrics.gauc(labels, shifted, users) == metrics.gauc(labels, scores, users)
        assert metrics.auc(labels, shifted) != metrics.auc(labels, scores)

    def test_is_nan_if_no_user_has_both_classes(self):
        received = metrics.gauc([0, 1], [1.0, 2.0], [0, 1])
        assert math.isnan(received.value)
        assert received.num_users == 0

    def test_unknown_weighting(self):
        with pytest.raises(ValueError, match="weighting='users'. Expected one of: impressions"):
            metrics.gauc([0, 1], [1.0, 2.0], [0, 0], weighting="users")


class TestProbabilities:
    def test_log_loss_equals_the_formula(self, rows):
        labels, _, _, probabilities, _ = rows
        expected = reference_log_loss(labels, probabilities)
        assert metrics.log_loss(labels, probabilities) == pytest.approx(expected, rel=1e-12)

    def test_log_loss_of_certain_float32_is_finite(self):
        probabilities = np.array([1.0, 0.0], np.float32)
        assert metrics.log_loss([0, 1], probabilities) == pytest.approx(-math.log(1e-7))
        assert metrics.log_loss([1, 0], probabilities) == pytest.approx(0.0, abs=2e-7)

    def test_normalized_entropy(self, rows):
        labels, _, _, probabilities, _ = rows
        rate = np.full(len(labels), labels.mean())
        assert metrics.normalized_entropy(labels, rate) == pytest.approx(1.0)
        expected = reference_log_loss(labels, probabilities) / reference_log_loss(labels, rate)
        received = metrics.normalized_entropy(labels, probabilities)
        assert received == pytest.approx(expected, rel=1e-12)
        assert math.isnan(metrics.normalized_entropy([1, 1], [0.5, 0.5]))

    def test_calibration_error_by_hand(self):
        # Two bins of two rows: |0 - 0.3| and |2 - 1.5|, over four rows.
        labels, probabilities = [1, 0, 1, 0], [0.7, 0.1, 0.8, 0.2]
        received = metrics.expected_calibration_error(labels, probabilities, num_bins=2)
        assert received == pytest.approx((0.3 + 0.5) / 4)
        one_bin = metrics.expected_calibration_error(labels, probabilities, num_bins=1)
        assert one_bin == pytest.approx(abs(2 - 1.8) / 4)

    def test_calibration_error_of_right_and_of_shifted_probabilities(self):
        rng = np.random.default_rng(0)
        probabilities = rng.uniform(0.1, 0.8, 200_000)
        labels = rng.random(200_000) < probabilities
        assert metrics.expected_calibration_error(labels, probabilities) < 0.01
        shifted = metrics.expected_calibration_error(labels, probabilities + 0.1)
        assert shifted == pytest.approx(0.1, abs=0.005)

    def test_calibration_error_does_not_depend_on_the_order_of_ties(self, rows):
        labels, _, _, probabilities, _ = rows
        probabilities = np.round(probabilities, 1)
        order = np.argsort(labels)
        assert metrics.expected_calibration_error(
            labels[order], probabilities[order]
        ) == pytest.approx(metrics.expected_calibration_error(labels, probabilities), abs=1e-12)

    def test_predicted_over_observed(self):
        assert metrics.predicted_over_observed([1, 0, 1], [0.5, 0.25, 0.25]) == 0.5
        assert math.isnan(metrics.predicted_over_observed([0, 0], [0.5, 0.5]))

    def test_without_rows_all_are_nan(self):
        for metric in (
            metrics.log_loss,
            metrics.normalized_entropy,
            metrics.expected_calibration_error,
            metrics.predicted_over_observed,
        ):
            assert math.isnan(metric([], []))

    def test_relative_improvement(self):
        assert metrics.relative_improvement(0.75, 0.7) == pytest.approx(0.25)
        assert metrics.relative_improvement(0.7, 0.7) == 0.0
        assert math.isnan(metrics.relative_improvement(0.7, 0.5))


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: metrics.auc([0, 2], [1.0, 2.0]), "must be 0 or 1. Received: 2 at row 1"),
            (lambda: metrics.log_loss([0.5], [0.5]), "must be 0 or 1. Received: 0.5 at row 0"),
            (lambda: metrics.auc([0, 1], [1.0, math.nan]), "`scores` must be .* nan at row 1"),
            (lambda: metrics.gauc([0, 1], [math.nan, 1.0], [0, 0]), "nan at row 0, and 1 such"),
            (lambda: metrics.auc([0, 1], [1.0, 2.0], [1.0, -1.0]), "`weights` .* -1.0 at row 1"),
            (lambda: metrics.log_loss([0, 1], [0.1, 1.5]), "`probabilities` .* 1.5 at row 1"),
            (lambda: metrics.auc([0, 1], [1.0]), r"labels \(2,\), scores \(1,\)"),
            (lambda: metrics.auc([[0], [1]], [[1.0], [2.0]]), r"labels \(2, 1\)"),
            (lambda: metrics.gauc([0, 1], [1.0, 2.0], [0]), r"users \(1,\)"),
            (
                lambda: metrics.expected_calibration_error([0], [0.5], num_bins=0),
                "`num_bins` must be at least 1",
            ),
        ],
    )
    def test_is_refused(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()
