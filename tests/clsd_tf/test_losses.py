"""Losses against plain NumPy, hand-worked values, and what must not have a gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import losses


def reference_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = 1.0 / (1.0 + np.exp(-logits))
    return -(labels * np.log(p) + (1.0 - labels) * np.log(1.0 - p))


def reference_distillation(
    logits: np.ndarray, teacher_logits: np.ndarray, temperature: float
) -> np.ndarray:
    targets = 1.0 / (1.0 + np.exp(-teacher_logits / temperature))
    return temperature**2 * reference_cross_entropy(logits / temperature, targets)


def reference_weights(labels: np.ndarray, confidence: np.ndarray, mean: float) -> np.ndarray:
    return np.array([c / mean if y else 1.0 for y, c in zip(labels, confidence, strict=True)])


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, teacher logits, labels and confidence of 200 rows."""
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.3).astype(np.float64)
    return rng.normal(0, 2, 200), rng.normal(0, 2, 200), labels, rng.uniform(0.05, 1, 200)


def test_click_loss_equals_the_formula(batch):
    logits, _, labels, confidence = batch
    for targets in (labels, confidence):
        expected = reference_cross_entropy(logits, targets)
        np.testing.assert_allclose(losses.click_loss(logits, targets), expected, rtol=1e-5)


def test_click_loss_by_hand():
    # Logit log 3 is p = 3/4: a click costs log(4/3), a non-click log 4, a half click the mean.
    logits = tf.fill([3], math.log(3.0))
    expected = [math.log(4 / 3), math.log(4.0), (math.log(4 / 3) + math.log(4.0)) / 2]
    np.testing.assert_allclose(losses.click_loss(logits, [1.0, 0.0, 0.5]), expected, rtol=1e-6)


def test_click_loss_is_finite_at_extreme_logits():
    logits = tf.constant([-1e4, 1e4, -1e4, 1e4])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.click_loss(logits, [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(loss, [0.0, 0.0, 1e4, 1e4])
    np.testing.assert_allclose(tape.gradient(loss, logits), [0.0, 0.0, -1.0, 1.0])


def test_click_loss_is_float32_for_half_precision_logits():
    assert losses.click_loss(tf.constant([1.0], tf.bfloat16), [1]).dtype == tf.float32


def test_soft_labels_replace_clicks_only():
    labels = losses.soft_labels([1, 0, 1], tf.constant([0.25, 0.5, 1.0]))
    np.testing.assert_array_equal(labels, [0.25, 0.0, 1.0])


def test_soft_labels_and_weights_ignore_the_confidence_of_non_clicks():
    confidence = tf.constant([0.5, float("nan")])
    np.testing.assert_array_equal(losses.soft_labels([1, 0], confidence), [0.5, 0.0])
    weights = losses.click_weights([1, 0], confidence, mean_weight=0.25)
    np.testing.assert_array_equal(weights, [2.0, 1.0])


def test_click_weights_equal_the_formula_and_average_one_over_clicks(batch):
    _, _, labels, confidence = batch
    mean = confidence[labels == 1].mean()
    weights = losses.click_weights(labels, confidence, mean_weight=mean).numpy()
    np.testing.assert_allclose(weights, reference_weights(labels, confidence, mean), rtol=1e-6)
    assert weights[labels == 1].mean() == pytest.approx(1.0, rel=1e-6)
    assert set(weights[labels == 0]) == {1.0}
    assert weights[labels == 1].std() > 0.1


def test_click_weights_are_finite_before_the_first_click():
    weights = losses.click_weights([0, 1], tf.constant([0.5, 0.5]), mean_weight=0.0)
    np.testing.assert_array_equal(weights, [1.0, 0.0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_distillation_equals_the_formula(batch, temperature):
    logits, teacher_logits, _, _ = batch
    loss = losses.distillation_loss(logits, teacher_logits, temperature=temperature)
    expected = reference_distillation(logits, teacher_logits, temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_distillation_by_hand():
    # tau = 2, both logits 2 log 3: both soften to 3/4, whose entropy is log 4 - 3/4 log 3.
    logits = tf.constant([2.0 * math.log(3.0)])
    loss = losses.distillation_loss(logits, logits, temperature=2.0)
    np.testing.assert_allclose(loss, [4.0 * (math.log(4.0) - 0.75 * math.log(3.0))], rtol=1e-6)


def test_distillation_is_least_where_student_equals_teacher():
    teacher_logits = tf.constant([-3.0, 0.2, 5.0])
    logits = tf.identity(teacher_logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.distillation_loss(logits, teacher_logits, temperature=2.0)
    np.testing.assert_allclose(tape.gradient(loss, logits), np.zeros(3), atol=1e-6)


def test_no_gradient_reaches_teacher_or_confidence():
    logits, source = tf.Variable([0.3, -0.7]), tf.Variable([1.0, 2.0])
    labels = tf.constant([1.0, 0.0])
    with tf.GradientTape(persistent=True) as tape:
        confidence = tf.sigmoid(source)
        weights = losses.click_weights(labels, confidence, mean_weight=confidence[0])
        student_losses = {
            "distillation": losses.distillation_loss(logits, source, temperature=2.0),
            "weight": weights * losses.click_loss(logits, labels),
            "soft": losses.click_loss(logits, losses.soft_labels(labels, confidence)),
        }
    for name, loss in student_losses.items():
        assert tape.gradient(loss, source) is None, name
        assert np.all(tape.gradient(loss, logits).numpy() != 0.0), name


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature` must be > 0. Received: temperature="):
        losses.distillation_loss(tf.zeros(1), tf.zeros(1), temperature=temperature)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: losses.click_loss(a, b),
        lambda a, b: losses.soft_labels(a, b),
        lambda a, b: losses.click_weights(a, b, mean_weight=0.5),
        lambda a, b: losses.distillation_loss(a, b, temperature=1.0),
    ],
)
def test_a_column_against_a_vector_is_an_error(call):
    with pytest.raises(ValueError, match=r"same shape, \[batch\].*\(4, 1\)"):
        call(tf.zeros([4]), tf.zeros([4, 1]))


def test_unknown_batch_sizes_pass():
    @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec(None)])
    def mean_loss(logits, labels):
        return tf.reduce_mean(losses.click_loss(logits, labels))

    assert mean_loss(tf.zeros([3]), tf.ones([3])).numpy() == pytest.approx(math.log(2.0))
