"""The noise mixture against plain NumPy, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.mixture import MixtureConfidence, mixture_confidence
from clsd_tf.student import Lesson, StudentLoss
from tests.clsd_tf.test_noise_rates import noisy_clicks

RATES = [0.05, 0.3]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def fitted(rates=None, **options) -> MixtureConfidence:
    function = MixtureConfidence(2, rates=rates, **options)
    function.fit_held_out(*noisy_clicks(RATES))
    return function


def test_golden_value():
    # Of 100 impressions 20 are of interest, and a quarter of the other 80 is clicked: 20 of 40.
    confidence = mixture_confidence(tf.constant([0.2]), tf.constant([0.25]))
    assert confidence.numpy() == pytest.approx([0.5])


def test_equals_the_reference():
    function = fitted(rates=RATES)
    logits, groups = np.linspace(-4, 4, 9), np.arange(9) % 2
    head = function.local_head
    scale, bias = head.scale.numpy()[groups], head.bias.numpy()[groups]
    interest = sigmoid(scale * logits + bias)
    rate = np.asarray(RATES)[groups]
    pooled, local = function(tf.constant(logits, tf.float32), tf.constant(groups))
    np.testing.assert_allclose(local, interest / (rate + (1 - rate) * interest), rtol=1e-5)
    assert pooled.shape == local.shape
    np.testing.assert_allclose(function.non_click_weights(groups), 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_allclose(
        function.interest_logits(tf.constant(logits, tf.float32), groups),
        scale * logits + bias,
        rtol=1e-5,
    )


def test_finds_the_interest_that_made_the_clicks():
    function = fitted(rates=RATES)
    np.testing.assert_allclose(function.local_head.scale, [1.0, 1.0], atol=0.08)
    np.testing.assert_allclose(function.local_head.bias, [0.0, 0.0], atol=0.12)


def test_the_fit_with_a_floor_is_the_most_likely():
    logits, labels, group = noisy_clicks([0.2], rows=3_000)
    floors = np.array([0.2, 0.2])
    found, _ = fit_affine_by_group(
        logits, labels, group, num_groups=1, prior_strength=1.0, floors=floors
    )

    def loss(parameters):
        rate = 0.2 + 0.8 * sigmoid(parameters[0] * logits + parameters[1])
        return -np.sum(labels * np.log(rate) + (1 - labels) * np.log(1 - rate))

    expected = optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6})
    np.testing.assert_allclose([found.scale, found.bias], expected.x, atol=1e-3)


def test_confidence_rises_with_the_teachers_logit():
    _, local = fitted()(tf.linspace(-6.0, 6.0, 50), tf.ones(50, tf.int64))
    assert np.all(np.diff(local) > 0)
    assert np.all((local.numpy() > 0) & (local.numpy() <= 1))


def test_without_noise_clicks_are_learned_as_they_are():
    function = fitted(rates=[0.0, 0.0])
    logits = tf.constant([-2.0, 0.0, 3.0])
    _, confidence = function(logits, tf.constant([0, 1, 1]))
    np.testing.assert_allclose(confidence, 1.0, rtol=1e-6)
    labels, ones = tf.constant([1.0, 0.0, 1.0]), tf.ones(3)
    plain = StudentLoss()(logits, labels, None)
    for student in ("soft", "weight"):
        others = function.non_click_weights(tf.constant([0, 1, 1]))
        lesson = Lesson(logits, confidence, others, tf.reduce_mean(ones))
        np.testing.assert_allclose(StudentLoss(student)(logits, labels, lesson), plain, rtol=1e-6)


def test_one_group_equals_the_pooled_form_exactly():
    function = MixtureConfidence(1)
    function.fit_held_out(*noisy_clicks([0.2]))
    pooled, local = function(tf.linspace(-3.0, 3.0, 7), tf.zeros(7, tf.int64))
    np.testing.assert_array_equal(pooled, local)


def test_permuting_group_ids_permutes_rates_and_parameters():
    logits, labels, group = noisy_clicks([0.02, 0.1, 0.3])
    new_id = np.array([2, 0, 1])
    one, other = MixtureConfidence(3), MixtureConfidence(3)
    one.fit_held_out(logits, labels, group)
    other.fit_held_out(logits, labels, new_id[group])
    for before, now in zip(one.weights, other.weights, strict=True):
        moved = now.numpy()[new_id] if now.shape == (3,) else now.numpy()
        np.testing.assert_allclose(moved, before.numpy(), rtol=1e-5, atol=1e-7)


def test_weights_and_soft_labels_are_unbiased():
    """Of many clicks by the mixture, both estimate the interest of an impression."""
    function = fitted(rates=RATES)
    logits, labels, group = noisy_clicks(RATES, rows=200_000, seed=5)
    function.local_head.assign(1.0, 0.0)
    _, confidence = function(tf.constant(logits, tf.float32), tf.constant(group))
    clicks, others = labels * confidence.numpy(), (1 - labels) / (1 - np.asarray(RATES)[group])
    interest = sigmoid(logits)
    for chosen in (group == 0, group == 1, logits < -1):
        assert clicks[chosen].mean() == pytest.approx(interest[chosen].mean(), abs=0.005)
        share = clicks[chosen].sum() / (clicks[chosen].sum() + others[chosen].sum())
        assert share == pytest.approx(interest[chosen].mean(), abs=0.005)


def test_relative_rates_count_from_the_least_noisy_group():
    absolute, relative = fitted(relative=False), fitted()
    rates = absolute.noise_rates.numpy()
    expected = (rates - rates.min()) / (1 - rates.min())
    np.testing.assert_allclose(relative.noise_rates, expected, rtol=1e-5)
    assert relative.noise_rates.numpy()[0] == 0.0
    found = [[row["noise_rate"] for row in f.table()[1:]] for f in (absolute, relative)]
    assert found[0] == found[1]  # what is told are the rates themselves


def test_the_table_tells_rates_with_intervals():
    rows = fitted().table(["new", "old"])
    assert [row["group"] for row in rows] == ["pooled", "new", "old"]
    for row, planted in zip(rows[1:], RATES, strict=True):
        assert row["noise_rate_low"] < row["noise_rate"] < row["noise_rate_high"]
        assert row["noise_rate"] == pytest.approx(planted, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": 0.0}, "`tail` must be in"),
        ({"min_rows": 0}, "`min_rows` must be >= 1"),
        ({"rates": [0.1]}, "a rate in .0, 1. for each of 2 groups"),
        ({"rates": [0.1, 1.0]}, "a rate in .0, 1. for each of 2 groups"),
    ],
)
def test_mistaken_options(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureConfidence(2, **options)
