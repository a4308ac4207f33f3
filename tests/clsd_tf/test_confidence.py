"""Confidence functions against NumPy, their contract, and the registry."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import confidence_base
from clsd_tf.calibration import fit_affine_by_group
from clsd_tf.confidence import (
    CONFIDENCE_FUNCTIONS,
    AffineConfidence,
    ConfidenceFunction,
    GlobalConfidence,
    GroupConfidenceHead,
    combine,
    get_confidence,
    register_confidence,
)

NUM_GROUPS = 3


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def reference_global(logits: np.ndarray, labels: np.ndarray, sharpness: float) -> np.ndarray:
    """Confidence after one update with the same batch."""
    clicked = logits[labels == 1]
    return sigmoid(sharpness * (logits - clicked.mean()) / clicked.std())


def reference_combine(pooled: np.ndarray, local: np.ndarray, alpha: float) -> np.ndarray:
    return np.exp((1 - alpha) * np.log(pooled) + alpha * np.log(local))


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and groups; groups differ in slope and offset."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, NUM_GROUPS, 4000)
    logits = rng.normal(-1.0, 1.5, 4000)
    probability = sigmoid(np.array([1.2, 0.8, 0.4])[group] * logits - np.array([0, 0.5, 1])[group])
    return logits, (rng.random(4000) < probability).astype(np.float64), group


FITTED = ["global", "affine", "mixture", "multi_granularity"]  # the others learn by batches


@pytest.fixture(params=FITTED)
def function(request, rows) -> ConfidenceFunction:
    """Each registered function, ready for use."""
    # Relative rates leave a group without noise, whose clicks all have confidence 1.
    options = {"relative": False} if request.param.startswith("m") else {}
    built = get_confidence(request.param, NUM_GROUPS, **options)
    built.fit_held_out(*rows)
    built.update(*rows)
    return built


def test_every_function_of_the_library_is_tested():
    own = {n for n, f in CONFIDENCE_FUNCTIONS.items() if f.__module__.startswith("clsd_tf")}
    assert own - {"online_affine", "online_mixture", "online_multi_granularity"} == set(FITTED)


def test_confidence_is_in_range_and_rises_with_the_logit(function):
    logits = tf.constant([-1e6, -300.0, -5.0, -1.0, 0.0, 1.0, 5.0, 300.0, 1e6])
    for g in range(NUM_GROUPS):
        for confidence in function(logits, tf.fill([9], g)):
            values = confidence.numpy()
            assert values.dtype == np.float32
            assert values.shape == (9,)
            assert np.all(values > 0.0)
            assert np.all(values <= 1.0)
            assert np.all(np.diff(values) >= 0.0)
            assert np.all(np.diff(values[2:7]) > 0.0)


def test_a_batch_of_one_and_a_graph_work(function):
    @tf.function
    def in_graph(logits, group):
        return function(logits, group)

    eager = function(tf.constant([0.3]), tf.constant([1], tf.int64))
    for received, expected in zip(in_graph([0.3], [1]), eager, strict=True):
        assert received.shape == (1,)
        np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_nothing_is_trainable(function):
    assert function.weights
    assert not function.trainable_weights
    function.trainable = True
    assert not function.trainable_weights


def test_serialises_with_its_weights(function, rows, tmp_path):
    logits, _, group = (tf.constant(column) for column in rows)
    expected = function(logits, group)

    config = keras.saving.serialize_keras_object(function)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(function)
    assert restored.get_config() == function.get_config()
    path = tf.train.Checkpoint(function=function).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(function=restored).read(path).assert_consumed()
    assert restored.is_fitted
    np.testing.assert_array_equal(restored(logits, group), expected)
    assert restored.table() == function.table()


def test_is_saved_inside_a_keras_model(function, rows, tmp_path):
    logits, _, group = (tf.constant(column, tf.float32) for column in rows)
    group = tf.cast(group, tf.int32)
    inputs = [keras.Input([], name="logits"), keras.Input([], dtype=tf.int32, name="group")]
    model = keras.Model(inputs, function(*inputs))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored([logits, group]), model([logits, group]))


def test_mixed_precision_does_not_round_the_logits(rows):
    function = GlobalConfidence()
    function.update(*rows)
    logits, group = tf.constant([1.0, 1.0001]), tf.zeros([2], tf.int32)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        under_policy = GlobalConfidence()
        under_policy.update(*rows)
        received, _ = under_policy(logits, group)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(received, function(logits, group)[0])
    assert received[0] < received[1]


class TestGlobal:
    @pytest.mark.parametrize("sharpness", [0.5, 3.0])
    def test_equals_the_formula(self, rows, sharpness):
        logits, labels, group = rows
        function = GlobalConfidence(sharpness)
        function.update(logits, labels, group)
        pooled, local = function(logits, group)
        expected = reference_global(logits, labels, sharpness)
        np.testing.assert_allclose(pooled, expected, rtol=1e-4)
        np.testing.assert_array_equal(local, pooled)

    def test_by_hand(self):
        # Clicks at 1 and 3: mean 2, deviation 1. Logit 2 + log 3 has confidence 3/4.
        function = GlobalConfidence()
        function.update(tf.constant([1.0, 3.0, 50.0]), tf.constant([1, 1, 0]), tf.zeros(3))
        received, _ = function(tf.constant([2.0, 2.0 + np.log(3.0)], tf.float32), tf.zeros(2))
        np.testing.assert_allclose(received, [0.5, 0.75], rtol=1e-6)

    @pytest.mark.parametrize("logits", [[], [4.0], [0.1] * 7, [-1 / 3] * 1000])
    def test_is_a_half_without_a_spread(self, logits):
        function = GlobalConfidence()
        function.update(tf.constant(logits, tf.float32), tf.ones(len(logits)), tf.zeros(1))
        received, _ = function(tf.constant([-9.0, 4.0]), tf.zeros(2))
        np.testing.assert_array_equal(received, [0.5, 0.5])

    def test_needs_no_held_out_rows(self):
        function = GlobalConfidence()
        assert not function.needs_held_out
        assert function.is_fitted
        before = function.get_weights()
        function.fit_held_out(np.array([1.0]), np.array([1]), np.array([0]))
        np.testing.assert_array_equal(function.get_weights(), before)

    def test_table(self):
        function = GlobalConfidence(sharpness=2.0)
        function.update(tf.constant([1.0, 3.0]), tf.constant([1, 1]), tf.zeros(2))
        (row,) = function.table(["a", "b"])
        assert row == {"group": "all", "mean": 2.0, "standard_deviation": 1.0, "sharpness": 2.0}

    @pytest.mark.parametrize("sharpness", [0.0, -1.0])
    def test_sharpness_must_be_positive(self, sharpness):
        with pytest.raises(ValueError, match="`sharpness` must be > 0. Received: sharpness="):
            GlobalConfidence(sharpness)


class TestHead:
    def test_equals_the_formula(self, rows):
        logits, _, group = rows
        scale, bias = np.array([0.2, 1.0, 7.0]), np.array([-1.0, 0.0, 2.0])
        head = GroupConfidenceHead(NUM_GROUPS)
        head.assign(scale, bias)
        np.testing.assert_allclose(head.scale, scale, rtol=1e-6)
        expected = sigmoid(scale[group] * logits + bias[group])
        np.testing.assert_allclose(head(logits, group), expected, rtol=2e-4)

    def test_starts_as_the_sigmoid_and_can_be_trained(self):
        head = GroupConfidenceHead(2)
        with tf.GradientTape() as tape:
            confidence = head(tf.constant([0.5, -2.0]), tf.constant([0, 0]))
        np.testing.assert_allclose(confidence, sigmoid(np.array([0.5, -2.0])), rtol=1e-6)
        raw_scale, bias = tape.gradient(confidence, head.trainable_weights)
        np.testing.assert_array_equal(tf.convert_to_tensor(bias) != 0.0, [True, False])
        np.testing.assert_array_equal(tf.convert_to_tensor(raw_scale) != 0.0, [True, False])

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 500.0])
    def test_any_positive_scale_can_be_assigned(self, scale):
        head = GroupConfidenceHead(1)
        head.assign(scale, 0.0)
        np.testing.assert_allclose(head.scale, [scale], rtol=1e-5)


class TestAffine:
    def test_equals_the_fit(self, rows):
        logits, _, group = rows
        function = AffineConfidence(NUM_GROUPS, prior_strength=50.0)
        function.fit_held_out(*rows)
        fits = fit_affine_by_group(*rows, num_groups=NUM_GROUPS, prior_strength=50.0)
        pooled, local = function(logits, group)
        expected = [
            sigmoid(
                np.broadcast_to(fit.scale, NUM_GROUPS)[group] * logits
                + np.broadcast_to(fit.bias, NUM_GROUPS)[group]
            )
            for fit in fits
        ]
        np.testing.assert_allclose([pooled, local], expected, rtol=1e-4)
        assert np.abs(pooled - local).max() > 0.05

    def test_one_group_equals_pooled_exactly(self, rows):
        logits, labels, group = rows
        function = AffineConfidence(1)
        function.fit_held_out(logits, labels, np.zeros_like(group))
        pooled, local = function(logits, np.zeros_like(group))
        np.testing.assert_array_equal(pooled, local)

    def test_an_empty_group_equals_pooled_exactly(self, rows):
        logits, labels, group = rows
        function = AffineConfidence(17)
        function.fit_held_out(logits, labels, group)
        pooled, local = function(logits, np.full_like(group, 9))
        np.testing.assert_array_equal(pooled, local)

    def test_use_before_the_fit_is_an_error(self, rows):
        logits, _, group = rows
        function = AffineConfidence(NUM_GROUPS, name="mine")
        assert function.needs_held_out
        assert not function.is_fitted
        with pytest.raises(ValueError, match=r"'mine' is used before it was fitted. .* Expected"):
            function(logits, group)
        in_graph = tf.function(function)
        with pytest.raises(tf.errors.InvalidArgumentError, match="before it was fitted"):
            in_graph(logits, group)
        function.fit_held_out(*rows)
        assert function.is_fitted
        np.testing.assert_allclose(in_graph(logits, group), function(logits, group), rtol=1e-6)

    def test_bad_rows_are_refused_and_leave_it_unfitted(self, rows):
        logits, labels, group = rows
        function = AffineConfidence(2)
        with pytest.raises(ValueError, match=r"Groups must be in \[0, 2\). Received: 2"):
            function.fit_held_out(logits, labels, group)
        assert not function.is_fitted

    def test_table(self, rows):
        function = AffineConfidence(NUM_GROUPS)
        function.fit_held_out(*rows)
        table = function.table(["new", "casual", "heavy"])
        assert [row["group"] for row in table] == ["pooled", "new", "casual", "heavy"]
        assert [row["group"] for row in function.table()] == ["pooled", "0", "1", "2"]
        scales = [row["scale"] for row in table[1:]]
        assert scales == sorted(scales, reverse=True)  # the slopes of `rows` fall
        with pytest.raises(ValueError, match="one name per group. Received: 1 names"):
            function.table(["new"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_groups": 0}, "`num_groups` must be at least 1. Received: num_groups=0"),
            ({"num_groups": 2, "prior_strength": 0.0}, "`prior_strength` must be > 0"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            AffineConfidence(**arguments)

    def test_two_replicas_give_the_same(self, rows, two_replicas):
        logits, _, group = (tf.constant(column[:8]) for column in rows)
        with two_replicas.scope():
            function = AffineConfidence(NUM_GROUPS)
        function.fit_held_out(*rows)
        expected = function(logits, group)[1]
        received = two_replicas.run(tf.function(lambda: function(logits, group)[1]))
        for local in two_replicas.experimental_local_results(received):
            np.testing.assert_array_equal(local, expected)


class TestCombine:
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
    def test_equals_the_formula(self, alpha):
        rng = np.random.default_rng(0)
        pooled, local = rng.uniform(0.01, 1.0, (2, 50)).astype(np.float32)
        received = combine(pooled, local, alpha=alpha)
        np.testing.assert_allclose(received, reference_combine(pooled, local, alpha), rtol=1e-5)

    def test_by_hand(self):
        received = combine(tf.constant([0.25]), tf.constant([1.0]), alpha=0.5)
        np.testing.assert_allclose(received, [0.5], rtol=1e-6)

    def test_ends_are_exact(self):
        pooled, local = tf.constant([1e-30, 0.3, 1.0]), tf.constant([0.7, 1e-30, 0.2])
        np.testing.assert_array_equal(combine(pooled, local, alpha=0.0), pooled)
        np.testing.assert_array_equal(combine(pooled, local, alpha=1.0), local)

    @pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
    def test_alpha_must_be_in_range(self, alpha):
        with pytest.raises(ValueError, match=r"`alpha` must be in \[0, 1\]. Received: alpha="):
            combine(tf.ones(1), tf.ones(1), alpha=alpha)


class TestRegistry:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch):
        monkeypatch.setattr(confidence_base, "CONFIDENCE_FUNCTIONS", dict(CONFIDENCE_FUNCTIONS))

    def test_passes_num_groups_where_wanted(self):
        assert get_confidence("affine", 7, prior_strength=5.0).num_groups == 7
        assert get_confidence("global", 7, sharpness=3.0).num_groups is None

    def test_unknown_name_lists_the_choices(self):
        with pytest.raises(ValueError, match="Received: 'glob'. Expected one of: affine, global"):
            get_confidence("glob", 2)

    def test_unknown_argument_is_an_error(self):
        with pytest.raises(TypeError, match="sharpnes"):
            get_confidence("global", 2, sharpnes=3.0)

    def test_a_function_of_the_user_needs_one_method(self):
        @register_confidence("half")
        class Half(ConfidenceFunction):
            def call(self, teacher_logits, group):
                half = tf.fill(tf.shape(teacher_logits), 0.5)
                return half, half

        function = get_confidence("half", 2)
        function.update(tf.zeros(1), tf.ones(1), tf.zeros(1))
        function.fit_held_out(np.zeros(1), np.ones(1), np.zeros(1))
        assert function.is_fitted
        assert function.table() == []
        np.testing.assert_array_equal(function(tf.zeros(2), tf.zeros(2))[0], [0.5, 0.5])

    def test_a_name_is_taken_once(self):
        with pytest.raises(ValueError, match="a confidence function 'global' already"):
            register_confidence("global")(AffineConfidence)

    def test_the_base_class_is_abstract(self):
        with pytest.raises(TypeError, match="abstract"):
            ConfidenceFunction()
