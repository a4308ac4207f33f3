"""Numbers at the ends of their range: finite, and right by a float64 reference in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf import losses
from clsd_tf.confidence import CONFIDENCE_FUNCTIONS, combine, get_confidence
from clsd_tf.denoising_agreement import agreement_loss, observation_log_likelihood
from clsd_tf.denoising_base import OBJECTIVES, Batch, get_objective
from clsd_tf.denoising_weights import (
    certainty_weights,
    dwell_value,
    label_quality,
    truncation_weights,
)
from clsd_tf.features import USER
from clsd_tf.group_offset import remove_group_offset
from clsd_tf.running_moments import RunningClickMoments
from clsd_tf.student import Lesson, StudentLoss

# Every pair of these.
ENDS = np.array([-1e4, -300.0, -88.0, -1.0, 0.0, 1.0, 17.0, 88.0, 300.0, 1e4])
LOGITS, TEACHER = (grid.ravel() for grid in np.meshgrid(ENDS, ENDS))
LABELS = (np.arange(LOGITS.size) % 2).astype(np.float64)
TINY, GROUPS = 2e-35, 4


def softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.where(z >= 0, 1.0, np.exp(-np.abs(z))) / (1.0 + np.exp(-np.abs(z)))


def cross_entropy(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y * softplus(-z) + (1.0 - y) * softplus(z)


def same(
    received: tf.Tensor,
    expected: np.ndarray,
    rtol: float = 2e-6,
    atol: np.ndarray | float = 1e-6,
) -> None:
    received = np.asarray(received, np.float64)
    assert np.isfinite(received).all()
    wrong = np.abs(received - expected) > rtol * np.abs(expected) + atol
    assert not wrong.any(), (received[wrong], np.broadcast_to(expected, wrong.shape)[wrong])


def rounded(values: np.ndarray) -> np.ndarray:
    """As float32 hands them on."""
    return values.astype(np.float32).astype(np.float64)


# A target that is rounded to float32 is off by 6e-8, and the loss by that times the logit.
ROUNDING = 1.2e-7


def tensors(*arrays: np.ndarray) -> list[tf.Tensor]:
    return [tf.constant(array, tf.float32) for array in arrays]


class TestLosses:
    @pytest.mark.parametrize("labels", [LABELS, np.full_like(LABELS, 0.3), sigmoid(TEACHER)])
    def test_click_loss_and_its_gradient(self, labels):
        z, y = tensors(LOGITS, labels)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = losses.click_loss(z, y)
        expected = cross_entropy(LOGITS, rounded(labels))
        same(loss, expected, atol=1e-6 + ROUNDING * np.abs(LOGITS))
        same(tape.gradient(loss, z), sigmoid(LOGITS) - labels)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
    def test_distillation_and_its_gradient(self, temperature):
        z, teacher = tensors(LOGITS, TEACHER)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = losses.distillation_loss(z, teacher, temperature=temperature)
        targets = sigmoid(TEACHER / temperature)
        expected = temperature**2 * cross_entropy(LOGITS / temperature, targets)
        same(loss, expected, rtol=1e-5, atol=1e-6 + ROUNDING * temperature * np.abs(LOGITS))
        same(
            tape.gradient(loss, z),
            temperature * (sigmoid(LOGITS / temperature) - targets),
            atol=1e-5,
        )

    @pytest.mark.parametrize("confidence", [TINY, 0.5, 1.0])
    @pytest.mark.parametrize("mean", [0.0, TINY, 1.0])
    def test_soft_labels_and_weights(self, confidence, mean):
        c = np.full_like(LABELS, confidence)
        y, as_tensor = tensors(LABELS, c)
        same(losses.soft_labels(y, as_tensor), LABELS * c, atol=0)
        same(losses.emphasis_weights(y, as_tensor), np.where(LABELS, c, 1.0), atol=0)
        for others in (None, np.full_like(LABELS, 100.0)):
            if others is not None and mean == TINY:
                continue  # 100 / 2e-35 is no float32; means of such weights are above 1
            expected = np.where(LABELS, c / mean if mean else 0.0, 1.0)
            if others is not None:
                expected = np.where(LABELS, expected, others / mean if mean else 0.0)
            weights = losses.click_weights(y, as_tensor, mean_weight=mean, non_click_weights=others)
            if confidence / (mean or 1.0) < 1e38:
                same(weights, expected, atol=0)

    @pytest.mark.parametrize("student", ["weight", "soft"])
    def test_the_student_at_every_end(self, student):
        for confidence in (TINY, 1.0):
            c = np.full_like(LABELS, confidence)
            z, teacher, y, as_tensor = tensors(LOGITS, TEACHER, LABELS, c)
            loss = StudentLoss(student, distillation=0.5)
            received = loss(z, y, Lesson(teacher, as_tensor, None, tf.constant(confidence)))
            targets = LABELS * c if student == "soft" else LABELS
            of_click = cross_entropy(LOGITS, targets)
            expected = 0.5 * of_click + 0.5 * cross_entropy(LOGITS, sigmoid(TEACHER))
            same(received, expected, atol=1e-6 + ROUNDING * np.abs(LOGITS))

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_agreement(self, share):
        z, teacher = tensors(LOGITS, TEACHER)
        gap, change = TEACHER - LOGITS, softplus(TEACHER) - softplus(LOGITS)
        forward, backward = sigmoid(TEACHER) * gap - change, change - sigmoid(LOGITS) * gap
        expected = share * forward + (1.0 - share) * backward
        same(agreement_loss(z, teacher, agreement=share), expected, atol=2e-3)

    @pytest.mark.parametrize("positives", [True, False])
    def test_likelihood_of_the_observed(self, positives):
        z, y, noise = tensors(LOGITS, LABELS, TEACHER)
        received = observation_log_likelihood(
            z, y, noise, denoise_positives=positives, impossible=3.0
        )
        observed = -cross_entropy(TEACHER, LABELS)
        f = sigmoid(LOGITS)
        expected = sigmoid(-LOGITS) * observed - 3.0 * f * (1.0 - LABELS)
        if not positives:
            expected = f * observed - 3.0 * sigmoid(-LOGITS) * LABELS
        same(received, expected)


class TestWeights:
    def test_certainty(self):
        loss = cross_entropy(LOGITS, LABELS)
        for beta in (0.0, 0.5, 30.0):
            received = certainty_weights(tf.constant(loss, tf.float32), beta=beta)
            # What float32 cannot hold is 0.
            same(received, np.exp(-beta * loss), rtol=2e-3, atol=1e-37)

    def test_truncation(self):
        loss = cross_entropy(LOGITS, LABELS)
        for share in (0.0, 0.3, 1.0):
            received = truncation_weights(*tensors(loss, LABELS), drop_share=share).numpy()
            clicks = np.flatnonzero(LABELS)
            worst = clicks[np.argsort(-loss[clicks].astype(np.float32), kind="stable")]
            expected = np.ones_like(LABELS)
            expected[worst[: int(share * clicks.size + 1e-4)]] = 0.0
            same(received, expected, atol=0)

    @pytest.mark.parametrize("thresholds", [None, (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
    def test_label_quality_of_sure_classifiers(self, thresholds):
        p, y = np.array([0.0, 1.0, 0.0, 1.0, 0.5]), np.array([0.0, 0.0, 1.0, 1.0, 1.0])
        corrected = p
        if thresholds is not None:
            t0, t1 = thresholds
            corrected = (p - t1 + max(t0, t1)) / (1.0 - t0 - t1 + 2.0 * max(t0, t1))
        expected = np.where(y, corrected, 1.0 - corrected)
        same(label_quality(*tensors(p, y), thresholds=thresholds), expected)

    def test_dwell(self):
        seconds = np.array([0.0, 1e-30, 15.0, 1e9, 3e38])
        expected = np.maximum(2.319 * sigmoid((seconds - 15.0) / 20.0) - 0.744, 0.0)
        same(dwell_value(tf.constant(seconds, tf.float32)), expected)

    def test_offsets_of_sure_predictions(self):
        received = remove_group_offset([0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1], [0.0, 0.99])
        same(received, np.array([0.0, 1.0, 0.0, 1.0]))

    def test_combination(self):
        ends = np.array([TINY, 0.5, 1.0])
        pooled, local = (grid.ravel() for grid in np.meshgrid(ends, ends))
        for alpha in (0.0, 0.5, 1.0):
            expected = np.exp((1 - alpha) * np.log(pooled) + alpha * np.log(local))
            same(combine(*tensors(pooled, local), alpha=alpha), expected, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 0], [1, 1, 1]])
    def test_moments(self, labels):
        values = np.array([-1e4, 1e4 + 1.0, 1e4])
        moments = RunningClickMoments()
        moments.update(tf.constant(values, tf.float32), labels)
        clicked = values[np.array(labels) == 1]
        same(moments.mean, clicked.mean() if clicked.size else 0.0)
        same(moments.standard_deviation, clicked.std() if clicked.size else 0.0, atol=1e-3)
        same(moments(tf.constant(values, tf.float32))[0] * 0.0, np.zeros(()))


def extreme_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group 0 is ordinary, 1 has one click, 2 has none, 3 has no rows; logits up to +-1e4."""
    rng = np.random.default_rng(0)
    group = rng.choice([0, 1, 2], 900, p=[0.6, 0.2, 0.2])
    logits = rng.normal(-1.0, 1.5, 900)
    logits[:8] = [-1e4, 1e4, -1e4, 1e4, -300.0, 300.0, 88.0, -88.0]
    labels = (rng.random(900) < sigmoid(logits)).astype(np.float64)
    labels[group != 0] = 0.0
    labels[np.flatnonzero(group == 1)[3]] = 1.0
    return logits, labels, group


@pytest.mark.parametrize("name", sorted(CONFIDENCE_FUNCTIONS))
class TestConfidence:
    @pytest.fixture
    def function(self, name):
        rows = extreme_rows()
        function = get_confidence(name, GROUPS)
        function.fit_held_out(*rows)
        for _ in range(2):
            function.update(*(tf.constant(column) for column in map(np.float32, rows[:2])), rows[2])
        return function

    def test_equals_the_reference_at_its_own_parameters(self, name, function):
        z = np.tile(ENDS, GROUPS)
        group = np.repeat(np.arange(GROUPS), ENDS.size)
        pooled, local = function(tf.constant(z, tf.float32), group)
        for received in (pooled.numpy(), local.numpy()):
            assert np.isfinite(received).all()
            assert ((received > 0.0) & (received <= 1.0)).all()
        if name == "global":
            table = function.table()[0]
            standard = (z - table["mean"]) / table["standard_deviation"]
            same(pooled, sigmoid(np.maximum(standard, -80.0)), rtol=1e-4, atol=0)
            return
        expected = []
        for head, rates in (
            (function.pooled_head, getattr(function, "pooled_rate", None)),
            (function.local_head, getattr(function, "noise_rates", None)),
        ):
            place = group if head.num_groups > 1 else np.zeros_like(group)
            scale = np.float64(head.scale.numpy())[place]
            bias = np.float64(tf.convert_to_tensor(head.bias).numpy())[place]
            p = sigmoid(np.maximum(scale * z + bias, -80.0))
            if rates is not None:
                e = np.float64(tf.convert_to_tensor(rates).numpy())[place]
                p /= e + (1.0 - e) * p
            expected.append(p)
        # a * z of 1e4 is rounded in float32, and exp makes a relative error of an absolute one.
        same(pooled, expected[0], rtol=1e-4, atol=0)
        same(local, expected[1], rtol=1e-4, atol=0)

    def test_what_goes_with_it_is_finite(self, name, function):
        z, group = tf.constant(ENDS, tf.float32), tf.zeros([ENDS.size], tf.int64)
        for values in (
            function.interest_logits(z, group),
            function.emphasis(z, group),
            function.non_click_weights(group),
        ):
            assert values is None or np.isfinite(values.numpy()).all()
        for row in function.table():
            numbers = [value for value in row.values() if isinstance(value, float)]
            assert np.isfinite(numbers).all()


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_at_every_end(name, clicks):
    objective = get_objective(name, clicks.inputs)
    rows = LOGITS.size
    c = np.full_like(LABELS, TINY)
    z, teacher, y, as_tensor = tensors(LOGITS, TEACHER, LABELS, c)
    features = {key: tf.constant(values[:rows]) for key, values in clicks.features.items()}
    features[USER] = tf.zeros([rows], tf.int64)
    features["satisfaction"] = tf.tile(tf.constant([0.0, 1.0, np.nan, 0.0]), [rows // 4])
    lesson = Lesson(teacher, as_tensor, None, tf.constant(TINY))
    for step in (0, 1, 5000):
        objective.step.assign(step)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = objective(z, Batch(features, y, lesson, StudentLoss()))
        assert np.isfinite(loss.numpy()).all()
        assert np.isfinite(tape.gradient(loss, z).numpy()).all()


def linear_model() -> clsd_tf.ClickConfidenceModel:
    """A model whose steps can be worked out by hand: logit = w x, w = 0."""
    inputs = {"x": keras.Input([], name="x")}
    column = keras.layers.Reshape([1])(inputs["x"])
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float32")
    return clsd_tf.ClickConfidenceModel(keras.Model(inputs, dense(column)))


def test_a_batch_without_weight_changes_nothing():
    model = linear_model()
    model.compile(keras.optimizers.SGD(1.0))
    x, y = tf.constant([1.0, -1e4, 1e4]), tf.constant([1.0, 0.0, 1.0])
    logs = model.train_on_batch({"x": x}, y, sample_weight=tf.zeros(3), return_dict=True)
    assert logs["loss"] == 0.0
    np.testing.assert_array_equal(model.backbone.get_weights()[0], [[0.0]])


def test_loss_scaling_gives_the_step_of_float32_and_skips_what_overflows():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = linear_model()
        model.compile(keras.optimizers.SGD(1.0))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = model.optimizer
    assert isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    x, y = np.array([1.0, 2.0, -0.5, 3.0]), np.array([1.0, 0.0, 1.0, 1.0])
    model.train_on_batch({"x": tf.constant(x, tf.float32)}, tf.constant(y, tf.float32))
    # The step of SGD from w = 0: minus the mean of (sigmoid(0) - y) x.
    same(model.backbone.get_weights()[0][0, 0], -np.mean((0.5 - y) * x), rtol=1e-3)
    before, scale = model.backbone.get_weights()[0], float(optimizer.loss_scale)
    huge = tf.constant([3e38, 3e38, 3e38, 3e38])
    model.train_on_batch({"x": huge}, tf.constant([0.0, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(model.backbone.get_weights()[0], before)
    assert float(optimizer.loss_scale) == scale / 2
    logs = model.train_on_batch({"x": tf.ones(4)}, tf.ones(4), return_dict=True)
    assert np.isfinite(model.backbone.get_weights()[0]).all()
    assert logs["loss"] >= 0.0


def test_the_default_optimizer_trains_in_bfloat16_and_refuses_float16(clicks):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        backbone = clsd_tf.get_backbone("mlp", clicks.inputs, units=[4])
        model = clsd_tf.ClickConfidenceModel(backbone)
        model.compile()
        history = model.fit(clicks.dataset(1000), epochs=2, verbose=0).history["loss"]
        keras.mixed_precision.set_global_policy("mixed_float16")
        other = clsd_tf.ClickConfidenceModel(clsd_tf.get_backbone("mlp", clicks.inputs))
        with pytest.raises(ValueError, match="cannot scale the loss.*Use mixed_bfloat16"):
            other.compile()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(history).all()
    assert history[1] < history[0]
    assert all(np.isfinite(w).all() for w in backbone.get_weights())
