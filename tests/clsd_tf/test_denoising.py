"""Objectives: their formulas, what they leave alone, and that they come back as they were."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.callbacks import StepCheckpoint
from clsd_tf.denoising import (
    OBJECTIVES,
    Batch,
    CrossModelAgreement,
    LabelQuality,
    Objective,
    PersonalLossWeighing,
    ReweightedLoss,
    SatisfactionWeighing,
    ShuffledConfidence,
    TruncatedLoss,
    get_objective,
    register_objective,
)
from clsd_tf.denoising_agreement import agreement_loss, observation_log_likelihood
from clsd_tf.features import USER
from clsd_tf.losses import click_loss
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.student import Lesson, StudentLoss

GROUPS = 3
STEPS = 16  # 2000 rows in batches of 128


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def batch_of(labels, lesson=None, **features) -> Batch:
    features = {name: tf.constant(values) for name, values in features.items()}
    return Batch(features, tf.constant(labels, tf.float32), lesson, StudentLoss())


def model_of(name: str, clicks, **options) -> ClickConfidenceModel:
    """A model that learns by the objective `name`, with the teacher and confidence it needs."""
    keras.utils.set_random_seed(5)
    objective = get_objective(name, clicks.inputs, **options)
    teacher, backbone = (get_backbone("mlp", clicks.inputs, units=[8]) for _ in range(2))
    model = ClickConfidenceModel(
        backbone,
        teacher if objective.needs_teacher else None,
        "global" if objective.needs_confidence else None,
        num_groups=GROUPS,
        objective=objective,
    )
    model.compile()
    return model


def rows_of(clicks) -> tf.data.Dataset:
    """The rows with a satisfaction column, which the backbone must not see."""
    satisfaction = np.where(clicks.features["price"] < 0, 1.0, 0.0).astype(np.float32)
    features = {**clicks.features, "satisfaction": satisfaction}
    whole = (features, clicks.labels, clicks.weights)
    return tf.data.Dataset.from_tensor_slices(whole).batch(128)


class TestTruncatedLoss:
    def test_drops_nothing_at_first_and_its_share_in_the_end(self):
        objective = TruncatedLoss(drop_rate=0.5, ramp_steps=10)
        logits, labels = tf.constant([2.0, -2.0, 1.0, -1.0, -3.0]), [1, 1, 1, 1, 0]
        losses = click_loss(logits, labels).numpy()
        for step, kept in ((0, [1, 1, 1, 1, 1]), (5, [1, 0, 1, 1, 1]), (99, [1, 0, 1, 0, 1])):
            objective.step.assign(step)
            np.testing.assert_allclose(objective(logits, batch_of(labels)), losses * kept)

    def test_the_model_counts_its_steps(self, clicks):
        model = model_of("t_ce", clicks)
        model.fit(clicks.dataset(), epochs=2, verbose=0)
        assert int(model.objective.step) == 2 * STEPS


class TestReweightedLoss:
    def test_equals_numpy(self):
        logits, labels = np.array([0.3, -1.2, 2.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
        of_label = np.where(labels == 1, sigmoid(logits), 1 - sigmoid(logits))
        expected = -(of_label**0.7) * np.log(of_label)
        result = ReweightedLoss(beta=0.7)(tf.constant(logits, tf.float32), batch_of(labels))
        np.testing.assert_allclose(result, expected, rtol=1e-5)

    def test_no_gradient_goes_through_the_weight(self):
        logits = tf.constant([0.4, -0.3])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = ReweightedLoss(beta=1.0)(logits, batch_of([1.0, 0.0]))
        p = sigmoid(np.array([0.4, -0.3]))
        expected = [p[0] * (p[0] - 1), (1 - p[1]) * p[1]]
        np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-5)


class TestPersonalLossWeighing:
    def weights(self, objective, losses, users, labels=None) -> np.ndarray:
        labels = np.ones(len(losses)) if labels is None else labels
        batch = batch_of(labels, **{USER: np.array(users)})
        return objective.weigh(tf.constant(losses, tf.float32), batch).numpy()

    def reference(self, losses, users, labels, temperature, pool_size, memory):
        weights = np.ones(len(losses))
        merit = np.exp(-np.array(losses) / temperature)
        for user in dict.fromkeys(users):
            own = [i for i, u in enumerate(users) if u == user and labels[i] == 1]
            total, count = memory.get(user, (0.0, 0.0))
            total, count = total + sum(merit[own]), count + len(own)
            for i in own:
                weights[i] = merit[i] / (total / count)
            shrink = max(count / pool_size, 1.0)
            memory[user] = (total / shrink, count / shrink)
        return weights

    def test_by_hand(self):
        # exp(-.1 log 3 / .1) = 1/3 and 1: of the two clicks one is three times as good.
        objective = PersonalLossWeighing(temperature=0.1, warmup_steps=0, num_slots=10)
        losses = [0.1 * np.log(3.0), 0.0, 0.7, 0.4]
        weights = self.weights(objective, losses, [1, 1, 2, 1], [1, 1, 1, 0])
        np.testing.assert_allclose(weights, [0.5, 1.5, 1.0, 1.0], rtol=1e-5)

    def test_equals_numpy_over_batches(self):
        rng = np.random.default_rng(0)
        objective = PersonalLossWeighing(3, temperature=0.5, warmup_steps=0, num_slots=50)
        memory: dict[int, tuple[float, float]] = {}
        for _ in range(6):
            losses, users = rng.uniform(0.1, 2, 40), rng.integers(0, 12, 40).tolist()
            labels = (rng.random(40) < 0.7).astype(np.float32)
            expected = self.reference(losses, users, labels, 0.5, 3, memory)
            np.testing.assert_allclose(
                self.weights(objective, losses, users, labels), expected, rtol=1e-4
            )

    def test_weights_average_one_over_the_clicks_of_a_user(self):
        objective = PersonalLossWeighing(warmup_steps=0)
        losses = np.random.default_rng(1).uniform(0.1, 3, 60)
        weights = self.weights(objective, losses, np.arange(60) % 5)
        for user in range(5):
            assert weights[user::5].mean() == pytest.approx(1.0, rel=1e-5)
        assert weights.std() > 0.5

    def test_all_weigh_the_same_until_the_warm_up_is_over(self):
        objective = PersonalLossWeighing(warmup_steps=4)
        np.testing.assert_array_equal(self.weights(objective, [0.1, 3.0], [1, 1]), [1.0, 1.0])
        objective.step.assign(4)
        assert np.ptp(self.weights(objective, [0.1, 3.0], [1, 1])) > 0.5

    def test_a_first_click_weighs_one_however_unlikely(self):
        objective = PersonalLossWeighing(warmup_steps=0)
        np.testing.assert_allclose(self.weights(objective, [1e4], [3]), [1.0], rtol=1e-5)

    def test_without_users(self, clicks):
        batches = clicks.dataset().map(
            lambda features, *rest: ({k: v for k, v in features.items() if k != USER}, *rest)
        )
        with pytest.raises(ValueError, match="'pld_style' compares clicks of the same user.*_user"):
            model_of("pld_style", clicks).fit(batches, verbose=0)


class TestCrossModelAgreement:
    def test_agreement_equals_numpy(self):
        rng = np.random.default_rng(0)
        z, teacher = rng.normal(0, 2, 50), rng.normal(0, 2, 50)
        f, g = sigmoid(z), sigmoid(teacher)

        def kl(q, p):
            return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))

        for share in (0.0, 0.3, 1.0):
            expected = share * kl(g, f) + (1 - share) * kl(f, g)
            result = agreement_loss(z, teacher, agreement=share)
            np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_agreement_by_hand(self):
        # f = 1/2, g = 3/4: KL(g||f) = log 2 - H(3/4) = .130812, KL(f||g) = log(2/sqrt 3) = .143841.
        result = agreement_loss(tf.zeros(1), [np.log(3.0)], agreement=0.5)
        np.testing.assert_allclose(result, [(0.130812 + 0.143841) / 2], atol=1e-5)

    @pytest.mark.parametrize("denoise_positives", [True, False])
    def test_likelihood_equals_numpy(self, denoise_positives):
        rng = np.random.default_rng(0)
        z, noise, labels = rng.normal(0, 2, 50), rng.normal(0, 2, 50), rng.integers(0, 2, 50)
        f, h = sigmoid(z), sigmoid(noise)
        if denoise_positives:
            expected = np.where(
                labels == 1, np.log(h) * (1 - f), np.log(1 - h) * (1 - f) - 10.0 * f
            )
        else:
            expected = np.where(labels == 1, np.log(h) * f - 10.0 * (1 - f), np.log(1 - h) * f)
        options = {"denoise_positives": denoise_positives, "impossible": 10.0}
        result = observation_log_likelihood(z, labels, noise, **options)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)

    def test_steps_alternate(self, clicks):
        objective = CrossModelAgreement(clicks.inputs, impossible_positive=100.0)
        features = {name: values[:9] for name, values in clicks.features.items()}
        lesson = Lesson(tf.zeros(9))
        batch = batch_of(np.zeros(9), lesson, **features)
        logits = tf.zeros(9)  # f = 1/2: a non-click costs 50 when positives are denoised
        large = objective(logits, batch).numpy()
        objective.step.assign_add(1)
        small = objective(logits, batch).numpy()
        assert large.min() > 50 > 1 > small.max()

    def test_noise_models_learn_with_the_backbone_and_the_teacher_does_not(self, clicks):
        model = model_of("decap_style", clicks)
        model.fit(clicks.dataset().take(1), verbose=0)
        noise = model.objective.trainable_weights
        assert len(noise) > 4
        before = [w.numpy() for w in noise]
        teacher = [w.numpy() for w in model.teacher.weights]
        model.fit(clicks.dataset(), verbose=0)
        assert all(np.any(w.numpy() != old) for w, old in zip(noise, before, strict=True))
        for weight, old in zip(model.teacher.weights, teacher, strict=True):
            np.testing.assert_array_equal(weight, old)

    def test_gradients_are_finite_at_extreme_logits(self):
        logits = tf.constant([-1e4, 1e4, -1e4, 1e4])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = agreement_loss(logits, tf.constant([1e4, 1e4, 0.0, -1e4]), agreement=0.5)
            loss -= observation_log_likelihood(
                logits, [0, 1, 1, 0], logits, denoise_positives=True, impossible=1.0
            )
        assert np.all(np.isfinite(loss)) and np.all(np.isfinite(tape.gradient(loss, logits)))


class TestLabelQuality:
    def test_by_hand(self):
        # Certainties of .25 and .75 in two clicks, whose mean is .5; non-clicks weigh 1.
        lesson = Lesson(tf.constant([-np.log(3.0), np.log(3.0), 2.0], tf.float32))
        weights = LabelQuality().weigh(tf.zeros(3), batch_of([1, 1, 0], lesson))
        np.testing.assert_allclose(weights, [0.5, 1.5, 1.0], rtol=1e-5)

    def test_adjusted_by_hand(self):
        # t_1 = .3, t_0 = .8, m = .8: a click weighs (p + .5) / (.3 + .5).
        p = np.array([0.2, 0.4, 0.2])
        lesson = Lesson(tf.constant(np.log(p / (1 - p)), tf.float32))
        weights = LabelQuality(adjust=True).weigh(tf.zeros(3), batch_of([1, 1, 0], lesson))
        np.testing.assert_allclose(weights, [0.7 / 0.8, 0.9 / 0.8, 1.0], rtol=1e-5)


class TestShuffledConfidence:
    def test_is_the_student_loss_of_permuted_confidence(self):
        confidence, labels = tf.constant([0.1, 0.2, 0.9, 0.4]), [1.0, 1.0, 0.0, 1.0]
        lesson = Lesson(tf.zeros(4), confidence, mean_weight=tf.constant(0.5))
        batch = batch_of(labels, lesson)
        objective, logits, seen = ShuffledConfidence(seed=1), tf.zeros(4), set()
        for step in range(20):
            objective.step.assign(step)
            result = objective(logits, batch).numpy()
            clicked = result[[0, 1, 3]]
            np.testing.assert_allclose(np.sort(clicked), np.log(2) * np.array([0.2, 0.4, 0.8]))
            assert result[2] == pytest.approx(np.log(2))
            seen.add(tuple(clicked))
        assert len(seen) == 6


class TestSatisfactionWeighing:
    def test_binary_by_hand(self):
        # Of four clicks with a signal one is satisfied: it weighs 4, the unknown one 1.
        nan = np.float32("nan")
        signal = np.array([1, 0, 0, 0, nan, 1], np.float32)
        batch = batch_of([1, 1, 1, 1, 1, 0], satisfaction=signal)
        weights = SatisfactionWeighing().weigh(tf.zeros(6), batch)
        np.testing.assert_allclose(weights, [4, 0, 0, 0, 1, 1])

    @pytest.mark.parametrize(
        ("signal", "unit"), [("dwell_seconds", 1), ("dwell_milliseconds", 1e3)]
    )
    def test_dwell_equals_numpy_and_averages_one(self, signal, unit):
        seconds = np.array([0.0, 3.0, 15.0, 200.0])
        value = 2.319 / (1 + np.exp(-(seconds - 15) / 20)) - 0.744
        batch = batch_of(np.ones(4), stay=(seconds * unit).astype(np.float32))
        weights = SatisfactionWeighing("stay", signal).weigh(tf.zeros(4), batch).numpy()
        np.testing.assert_allclose(weights, value / value.mean(), atol=1e-3)
        assert weights.mean() == pytest.approx(1.0, rel=1e-5)

    def test_its_column_reaches_no_backbone(self, clicks):
        seen = []

        class Spy(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.bias = self.add_weight("bias", shape=(), initializer="zeros")

            def call(self, features):
                seen.append(set(features))
                return self.bias + 0.0 * features["price"]

        model = ClickConfidenceModel(Spy(), objective=SatisfactionWeighing())
        model.compile("sgd")
        model.fit(rows_of(clicks), verbose=0)
        assert seen and all("satisfaction" not in names for names in seen)

    def test_without_the_column(self, clicks):
        with pytest.raises(ValueError, match="'oracle' finds no satisfaction.*'satisfaction'"):
            model_of("oracle", clicks).fit(clicks.dataset(), verbose=0)


class TestAllObjectives:
    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_comes_back_from_config_and_goes_on_from_a_checkpoint(self, clicks, tmp_path, name):
        def train(model, directory, batches) -> np.ndarray:
            checkpoint = StepCheckpoint(tmp_path / directory, every=5)
            done = checkpoint.restore(model)
            model.fit(rows_of(clicks).take(batches).skip(done), callbacks=[checkpoint], verbose=0)
            return model.predict(clicks.dataset(), verbose=0)

        options = {"warmup_steps": 2} if name == "pld_style" else {}
        undisturbed = train(model_of(name, clicks, **options), "a", STEPS)
        stopped = model_of(name, clicks, **options)
        train(stopped, "b", 7)
        restored = ClickConfidenceModel.from_config(stopped.get_config())
        restored.compile()
        restored(clicks.features)
        resumed = train(restored, "b", STEPS)
        assert type(restored.objective) is OBJECTIVES[name]
        assert restored.objective.get_config() == stopped.objective.get_config()
        assert int(restored.objective.step) == STEPS
        np.testing.assert_array_equal(resumed, undisturbed)

    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_learns_and_says_what_its_output_means(self, clicks, name):
        model = model_of(name, clicks)
        logged = model.fit(rows_of(clicks), validation_data=clicks.dataset(), epochs=3, verbose=0)
        assert np.all(np.isfinite(logged.history["loss"]))
        assert model.output_meaning != "click rate"
        if name != "decap_style":  # its teacher here has not learned anything
            assert logged.history["val_auc"][-1] > 0.6

    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_no_gradient_reaches_teacher_or_confidence(self, clicks, name):
        objective = get_objective(name, clicks.inputs)
        source, logits = tf.Variable(tf.zeros(8)), tf.Variable(tf.linspace(-1.0, 1.0, 8))
        features = {k: v[:8] for k, v in clicks.features.items()}
        labels = [1, 0, 1, 0, 1, 0, 1, 0]
        with tf.GradientTape(persistent=True) as tape:
            lesson = Lesson(source, tf.sigmoid(source), mean_weight=tf.constant(0.5))
            batch = batch_of(labels, lesson, satisfaction=np.ones(8, np.float32), **features)
            loss = objective(logits, batch)
        assert tape.gradient(loss, source) is None
        assert loss.shape == (8,) and np.all(np.isfinite(tape.gradient(loss, logits)))

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["t_ce", "pld_style", "shuffled", "decap_style", "oracle"])
    def test_trains_on_two_replicas(self, clicks, two_replicas, name):
        with two_replicas.scope():
            model = model_of(name, clicks)
            logged = model.fit(rows_of(clicks).take(4), verbose=0)
            assert np.isfinite(logged.history["loss"][0])
            assert model.objective.step.numpy() == 4


class TestMistakes:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: TruncatedLoss(drop_rate=1.0), r"`drop_rate` must be in \[0, 1\).*=1\.0"),
            (lambda: TruncatedLoss(ramp_steps=0), "`ramp_steps` must be >= 1.*=0"),
            (lambda: ReweightedLoss(beta=-1.0), "`beta` must be >= 0"),
            (lambda: PersonalLossWeighing(temperature=0.0), "`temperature` must be > 0"),
            (lambda: CrossModelAgreement([], agreement=2.0), r"`agreement` must be in \[0, 1\]"),
            (lambda: SatisfactionWeighing(signal="stars"), "Unknown `signal`.*'stars'.*binary"),
            (lambda: get_objective("t_cc"), "Unknown objective.*'t_cc'.*t_ce"),
            (
                lambda: get_objective("r_ce", gamma=1),
                "'r_ce' does not take that. Received: gamma.*beta",
            ),
            (lambda: register_objective("r_ce")(TruncatedLoss), "an objective 'r_ce' already"),
        ],
    )
    def test_arguments_out_of_range(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("decap_style", {}, "CrossModelAgreement needs a teacher"),
            ("r_ce", {"teacher": True}, "The teacher would not be used"),
            ("shuffled", {"teacher": True}, "ShuffledConfidence needs confidence"),
            ("r_ce", {"teacher": True, "confidence": "global"}, "does not use confidence"),
            ("r_ce", {"teacher": True, "distillation": 0.5}, "is the whole loss.*0.5"),
        ],
    )
    def test_what_an_objective_does_not_go_with(self, clicks, name, arguments, message):
        backbone, teacher = (get_backbone("mlp", clicks.inputs, units=[8]) for _ in range(2))
        if arguments.pop("teacher", False):
            arguments = {**arguments, "teacher": teacher}
        objective = get_objective(name, clicks.inputs)
        with pytest.raises(ValueError, match=message):
            ClickConfidenceModel(backbone, objective=objective, **arguments)


def test_all_objectives_are_documented_and_found_by_name():
    for name, factory in OBJECTIVES.items():
        assert issubclass(factory, Objective) and inspect.getdoc(factory), name
