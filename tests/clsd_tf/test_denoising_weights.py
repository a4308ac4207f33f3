"""Weights of the peer methods against plain NumPy, hand-worked values and cleanlab's own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import denoising_weights
from clsd_tf.losses import click_loss


def reference_truncation(losses: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    weights = np.ones(len(losses))
    clicks = [row for row in range(len(losses)) if labels[row] == 1]
    for row in sorted(clicks, key=lambda row: -losses[row])[: int(share * len(clicks) + 1e-4)]:
        weights[row] = 0.0
    return weights


def reference_certainty(logits: np.ndarray, labels: np.ndarray, beta: float) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits))
    return np.where(labels == 1, p, 1 - p) ** beta


def reference_quality(p: np.ndarray, labels: np.ndarray, thresholds=None) -> np.ndarray:
    both = np.stack([1 - p, p], axis=1)
    if thresholds is not None:
        both = both - np.array(thresholds) + max(thresholds)
        both /= both.sum(axis=1, keepdims=True)
    return both[np.arange(len(p)), labels.astype(int)]


def reference_dwell(seconds: float) -> float:
    return max(2.319 / (1 + np.exp(-(seconds - 15) / 20)) - 0.744, 0.0)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of 200 rows."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, 200).astype(np.float32), (rng.random(200) < 0.3).astype(np.float32)


class TestTruncation:
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
    def test_equals_the_reference(self, rows, share):
        logits, labels = rows
        losses = click_loss(logits, labels).numpy()
        weights = denoising_weights.truncation_weights(losses, labels, drop_share=share)
        np.testing.assert_array_equal(weights, reference_truncation(losses, labels, share))

    def test_by_hand(self):
        # Of five clicks .4 is two: the losses 3 and 2. The non-click with loss 9 stays.
        losses, labels = [3.0, 9.0, 0.1, 2.0, 0.2, 0.3], [1, 0, 1, 1, 1, 1]
        weights = denoising_weights.truncation_weights(losses, labels, drop_share=0.4)
        np.testing.assert_array_equal(weights, [0, 1, 1, 0, 1, 1])

    def test_a_share_that_is_a_whole_number_of_clicks_is_not_rounded_down(self):
        for share, clicks in ((0.1, 30), (0.7, 10), (0.3, 70)):
            weights = denoising_weights.truncation_weights(
                tf.range(clicks, dtype=tf.float32), tf.ones(clicks), drop_share=share
            )
            assert clicks - np.sum(weights) == round(share * clicks)

    def test_without_clicks_nothing_is_dropped(self):
        weights = denoising_weights.truncation_weights([1.0, 2.0], [0, 0], drop_share=1.0)
        np.testing.assert_array_equal(weights, [1, 1])

    def test_does_not_depend_on_the_order(self, rows):
        logits, labels = rows
        losses = click_loss(logits, labels).numpy()
        order = np.random.default_rng(1).permutation(len(labels))
        drop = denoising_weights.truncation_weights
        np.testing.assert_array_equal(
            drop(losses, labels, drop_share=0.25).numpy()[order],
            drop(losses[order], labels[order], drop_share=0.25),
        )


class TestCertainty:
    @pytest.mark.parametrize("beta", [0.0, 0.25, 1.0, 2.0])
    def test_equals_the_reference(self, rows, beta):
        logits, labels = rows
        weights = denoising_weights.certainty_weights(click_loss(logits, labels), beta=beta)
        np.testing.assert_allclose(weights, reference_certainty(logits, labels, beta), rtol=1e-4)

    def test_by_hand(self):
        # p = 3/4: a click weighs sqrt(3)/2, a non-click 1/2.
        losses = click_loss(tf.fill([2], np.log(3.0).astype(np.float32)), [1.0, 0.0])
        weights = denoising_weights.certainty_weights(losses, beta=0.5)
        np.testing.assert_allclose(weights, [np.sqrt(3) / 2, 0.5], rtol=1e-6)


class TestLabelQuality:
    PROBABILITIES = np.array([0.9, 0.2, 0.6, 0.05, 0.5, 0.75])
    LABELS = np.array([1, 1, 0, 0, 1, 1])
    THRESHOLDS = (0.675, 0.5875)  # mean certainty of the non-clicks, of the clicks
    # What cleanlab 2.9.0 gives.
    PLAIN = (0.9, 0.2, 0.4, 0.95, 0.5, 0.75)
    ADJUSTED = (0.9080460, 0.2643678, 0.3678161, 0.8735632, 0.5402299, 0.7701149)

    def test_golden_values(self):
        quality = denoising_weights.label_quality
        plain = quality(self.PROBABILITIES, self.LABELS)
        np.testing.assert_allclose(plain, self.PLAIN, rtol=1e-6)
        adjusted = quality(self.PROBABILITIES, self.LABELS, thresholds=self.THRESHOLDS)
        np.testing.assert_allclose(adjusted, self.ADJUSTED, rtol=1e-6)

    @pytest.mark.parametrize("thresholds", [None, (0.8, 0.4), (0.3, 0.6)])
    def test_equals_the_reference(self, rows, thresholds):
        logits, labels = rows
        p = 1 / (1 + np.exp(-logits))
        quality = denoising_weights.label_quality(p, labels, thresholds=thresholds)
        np.testing.assert_allclose(quality, reference_quality(p, labels, thresholds), rtol=1e-5)

    @pytest.mark.parametrize("method", ["self_confidence", "normalized_margin"])
    @pytest.mark.parametrize("adjust", [False, True])
    def test_equals_cleanlab(self, rows, method, adjust):
        rank = pytest.importorskip("cleanlab.rank")
        logits, labels = rows
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        expected = rank.get_label_quality_scores(
            labels.astype(int), np.stack([1 - p, p], 1), method=method, adjust_pred_probs=adjust
        )
        thresholds = ((1 - p)[labels == 0].mean(), p[labels == 1].mean()) if adjust else None
        quality = denoising_weights.label_quality(p, labels, thresholds=thresholds)
        np.testing.assert_allclose(quality, expected, atol=1e-5)


class TestDwell:
    def test_golden_values(self):
        # At the offset half of 2.319 less .744; at once 0; for ever 1.575.
        value = denoising_weights.dwell_value([0.0, 15.0, 1e6])
        np.testing.assert_allclose(value, [0.0, 0.4155, 1.575], atol=1e-3)
        assert float(value[0]) >= 0.0

    def test_equals_the_reference_and_rises(self):
        seconds = np.linspace(0, 200, 101)
        value = denoising_weights.dwell_value(seconds).numpy()
        np.testing.assert_allclose(value, [reference_dwell(s) for s in seconds], atol=1e-6)
        assert np.all(np.diff(value[1:]) > 0)


class TestPermutation:
    def test_clicks_keep_their_values_in_another_order_and_others_their_own(self, rows):
        values, labels = rows
        permuted = denoising_weights.permute_among_clicks(values, labels, seed=[0, 3]).numpy()
        np.testing.assert_array_equal(permuted[labels == 0], values[labels == 0])
        np.testing.assert_array_equal(np.sort(permuted[labels == 1]), np.sort(values[labels == 1]))
        assert np.mean(permuted[labels == 1] == values[labels == 1]) < 0.2

    def test_seed_and_step_decide(self, rows):
        permute = denoising_weights.permute_among_clicks
        one, same, other = (permute(*rows, seed=[0, step]).numpy() for step in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert np.any(one != other)

    def test_without_clicks(self):
        permuted = denoising_weights.permute_among_clicks(tf.constant([1.0]), [0], seed=[0, 0])
        np.testing.assert_array_equal(permuted, [1.0])
