"""Multi-granularity confidence against plain NumPy, and what must hold of it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.denoising import Batch, ShuffledConfidence
from clsd_tf.granularity import MultiGranularityConfidence, OnlineMultiGranularityConfidence
from clsd_tf.mixture import MixtureConfidence
from clsd_tf.student import Lesson, StudentLoss
from tests.clsd_tf.test_noise_rates import noisy_clicks

RATES = [0.05, 0.3]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(name="fitted")
def _fitted() -> MultiGranularityConfidence:
    function = MultiGranularityConfidence(2, sharpness=2.0, memory=1.0)
    function.fit_held_out(*noisy_clicks(RATES))
    return function


def some_batch():
    logits, labels, group = noisy_clicks(RATES, rows=200, seed=3)
    return tf.constant(logits, tf.float32), tf.constant(labels), tf.constant(group)


def test_emphasis_equals_the_reference(fitted):
    logits, labels, group = some_batch()
    fitted.update(logits, labels, group)
    head, clicks = fitted.local_head, labels.numpy() == 1
    which = group.numpy()
    interest = head.scale.numpy()[which] * logits.numpy() + head.bias.numpy()[which]
    standing = sigmoid(2.0 * (interest - interest[clicks].mean()) / interest[clicks].std())
    expected = standing / standing[clicks].mean()
    np.testing.assert_allclose(fitted.emphasis(logits, group), expected, rtol=1e-4)


def test_emphasis_averages_one_over_clicks_and_rises_with_the_teacher(fitted):
    logits, labels, group = some_batch()
    fitted.update(logits, labels, group)
    emphasis = fitted.emphasis(logits, group).numpy()
    assert emphasis[labels.numpy() == 1].mean() == pytest.approx(1.0, rel=1e-5)
    rising = fitted.emphasis(tf.linspace(-4.0, 4.0, 30), tf.ones(30, tf.int64))
    assert np.all(np.diff(rising) > 0)


def test_confidence_is_that_of_the_mixture(fitted):
    mixture = MixtureConfidence(2)
    mixture.fit_held_out(*noisy_clicks(RATES))
    logits, _, group = some_batch()
    for own, other in zip(fitted(logits, group), mixture(logits, group), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)


def test_a_click_weighs_its_emphasis_and_a_non_click_one():
    logits, labels = tf.constant([0.3, -1.0, 2.0]), tf.constant([1.0, 0.0, 1.0])
    confidence, emphasis = tf.constant([0.5, 0.9, 0.8]), tf.constant([0.4, 7.0, 1.6])
    lesson = Lesson(logits, confidence, mean_weight=tf.constant(0.65))
    for student in ("soft", "weight"):
        loss = StudentLoss(student)
        plain = loss(logits, labels, lesson)
        emphasised = loss(logits, labels, lesson._replace(emphasis=emphasis))
        np.testing.assert_allclose(emphasised, plain * [0.4, 1.0, 1.6], rtol=1e-6)


def test_no_gradient_reaches_the_emphasis():
    logits, labels = tf.constant([0.3, 1.0]), tf.ones(2)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        lesson = Lesson(logits, tf.constant([0.5, 0.9]), emphasis=2.0 * logits)
        loss = StudentLoss("soft")(tf.constant([0.1, 0.2]), labels, lesson)
    assert tape.gradient(loss, logits) is None


def test_shuffled_keeps_what_a_click_is_told_together():
    labels = tf.constant([1.0, 0.0, 1.0, 1.0, 1.0])
    confidence = tf.constant([0.1, 0.2, 0.3, 0.4, 0.5])
    seen = {}

    def loss(logits, labels, lesson):
        seen.update(confidence=lesson.confidence.numpy(), emphasis=lesson.emphasis.numpy())
        return logits

    lesson = Lesson(labels, confidence, emphasis=10.0 * confidence)
    ShuffledConfidence(seed=1)(labels, Batch({}, labels, lesson, loss))
    np.testing.assert_allclose(seen["emphasis"], 10.0 * seen["confidence"])
    assert sorted(seen["confidence"]) == pytest.approx(sorted(confidence.numpy()))
    assert not np.allclose(seen["confidence"], confidence)


def test_emphasis_that_would_not_rise_is_refused():
    with pytest.raises(ValueError, match="sharpness=0"):
        MultiGranularityConfidence(2, sharpness=0.0)


def test_an_ema_teacher_gives_the_same_emphasis_from_what_was_learned_by_batches():
    logits, labels, group = (tf.constant(v) for v in noisy_clicks(RATES, rows=20_000))
    logits = tf.cast(logits, tf.float32)
    online = OnlineMultiGranularityConfidence(2, rates=RATES, memory=1.0, decay=0.999)
    for start in range(0, 20_000, 2_000):
        part = slice(start, start + 2_000)
        online.update(logits[part], labels[part], group[part])
    emphasis = online.emphasis(logits, group).numpy()
    assert emphasis[labels.numpy() == 1].mean() == pytest.approx(1.0, abs=0.02)
    at_once = MultiGranularityConfidence(2, rates=RATES, memory=1.0)
    at_once.fit_held_out(logits.numpy(), labels.numpy(), group.numpy())
    at_once.update(logits, labels, group)
    np.testing.assert_allclose(emphasis, at_once.emphasis(logits, group), atol=0.05)
