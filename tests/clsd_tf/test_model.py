"""`ClickConfidenceModel`: what it learns from, what it leaves alone, and Keras around it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import metrics
from clsd_tf.backbones import get_backbone
from clsd_tf.confidence import AffineConfidence, GlobalConfidence
from clsd_tf.embeddings import FusedEmbedding, keras_inputs
from clsd_tf.features import GROUP
from clsd_tf.model import ClickConfidenceModel

GROUPS = 3


def trained_teacher(clicks) -> ClickConfidenceModel:
    teacher = ClickConfidenceModel(get_backbone("mlp", clicks.inputs, units=[8]), num_groups=GROUPS)
    teacher.compile()
    teacher.fit(clicks.dataset(), epochs=2, verbose=0)
    return teacher


def student_of(teacher, clicks, confidence="global", **options) -> ClickConfidenceModel:
    backbone = get_backbone("mlp", clicks.inputs, units=[8])
    model = ClickConfidenceModel(backbone, teacher, confidence, num_groups=GROUPS, **options)
    model.compile()
    return model


class OneLogit(keras.layers.Layer):
    """A backbone of a single weight: the logit of every example is the same."""

    def __init__(self, start: float = 0.0):
        super().__init__()
        self.logit = self.add_weight("logit", shape=(), initializer=lambda *a, **k: start)

    def call(self, features):
        return self.logit + tf.zeros_like(features["x"])


class Given(keras.layers.Layer):
    """A teacher whose logits are a feature."""

    def call(self, features):
        return features["x"]


def batch_of(x, labels, groups=None) -> tf.data.Dataset:
    features = {"x": tf.constant(x, tf.float32)}
    if groups is not None:
        features[GROUP] = tf.constant(groups, tf.int64)
    whole = (features, tf.constant(labels, tf.float32))
    return tf.data.Dataset.from_tensors(whole)


class TestLearning:
    def test_a_step_follows_the_gradient_of_the_weighted_loss(self):
        x, labels = [1.0, -1.0, 0.5, 2.0], [1.0, 1.0, 0.0, 0.0]
        model = ClickConfidenceModel(OneLogit(0.2), Given(), GlobalConfidence())
        model.compile(keras.optimizers.SGD(1.0))
        model.fit(batch_of(x, labels), verbose=0)
        # Clicks have teacher logits 1 and -1: mean 0, deviation 1, mean confidence 1/2.
        confidence = 1 / (1 + np.exp(-np.array([1.0, -1.0])))
        weights = np.array([*(confidence / 0.5), 1.0, 1.0])
        p = 1 / (1 + np.exp(-0.2))
        expected = 0.2 - np.mean(weights * (p - np.array(labels)))
        assert float(model.backbone.logit) == pytest.approx(expected, abs=1e-6)

    def test_soft_labels_lower_the_rate_to_that_of_confident_clicks(self):
        x, labels = [1.0, -1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]
        model = ClickConfidenceModel(OneLogit(), Given(), GlobalConfidence(), student="soft")
        model.compile(keras.optimizers.SGD(4.0))
        model.fit(batch_of(x, labels).repeat(200), verbose=0)
        # Two of four are clicks, of confidence 1/2 on average.
        assert model.predict(batch_of(x, labels), verbose=0)[0] == pytest.approx(0.25, abs=1e-3)

    def test_sample_weights_scale_the_loss_of_their_rows(self):
        x, labels, weights = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [4.0, 1.0, 1.0]
        data = tf.data.Dataset.from_tensors(({"x": tf.constant(x)}, labels, weights))
        model = ClickConfidenceModel(OneLogit())
        model.compile(keras.optimizers.SGD(0.6))
        model.fit(data.repeat(300), verbose=0)
        assert model.predict(data, verbose=0)[0] == pytest.approx(4 / 6, abs=1e-3)

    def test_penalties_of_the_backbone_are_minimised_too(self):
        inputs = {"x": keras.Input((), name="x")}
        dense = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.5))
        backbone = keras.Model(inputs, dense(inputs["x"][:, None]))
        model = ClickConfidenceModel(backbone)
        model.compile(keras.optimizers.SGD(1.0))
        before = float(dense.kernel[0, 0])
        model.fit(batch_of([0.0, 0.0], [1.0, 0.0]), verbose=0)
        assert float(dense.kernel[0, 0]) == pytest.approx(before - before, abs=1e-6)

    @pytest.mark.parametrize("confidence", ["global", "affine"])
    def test_nothing_but_the_backbone_learns(self, clicks, confidence):
        teacher = trained_teacher(clicks)
        student = student_of(teacher, clicks, confidence, distillation=0.3)
        student.fit_confidence(clicks.dataset())
        student(clicks.features)
        before = [w.numpy() for w in teacher.backbone.weights]
        parameters = (
            [w.numpy() for w in student.confidence.weights] if confidence == "affine" else []
        )
        fitted = student.confidence.weights if confidence == "affine" else []
        parameters = [w.numpy() for w in fitted]
        start = [w.numpy() for w in student.backbone.weights]
        student.fit(clicks.dataset(), verbose=0)
        for weight, value in zip(teacher.backbone.weights, before, strict=True):
            np.testing.assert_array_equal(weight, value)
        for weight, value in zip(fitted, parameters, strict=True):
            np.testing.assert_array_equal(weight, value)
        assert any(
            np.any(w.numpy() != value)
            for w, value in zip(student.backbone.weights, start, strict=True)
        )
        assert {w.ref() for w in student.trainable_weights} == {
            w.ref() for w in student.backbone.trainable_weights
        }

    def test_one_group_makes_affine_the_pooled_function(self, clicks):
        teacher = trained_teacher(clicks)
        models = []
        for alpha in (0.0, 0.5, 1.0):
            keras.utils.set_random_seed(3)
            backbone = get_backbone("mlp", clicks.inputs, units=[8])
            model = ClickConfidenceModel(backbone, teacher, "affine", alpha=alpha)
            model.compile()
            model.fit_confidence(clicks.dataset())
            model.fit(clicks.dataset(), verbose=0)
            models.append(model.predict(clicks.dataset(), verbose=0))
        np.testing.assert_allclose(models[0], models[1], atol=1e-6)
        np.testing.assert_allclose(models[0], models[2], atol=1e-6)

    def test_a_confidence_function_that_was_not_fitted_does_not_train(self, clicks):
        student = student_of(trained_teacher(clicks), clicks, "affine")
        with pytest.raises(tf.errors.InvalidArgumentError, match="before it was fitted"):
            student.fit(clicks.dataset(), verbose=0)


class TestServing:
    def test_predictions_are_the_backbones_alone(self, clicks):
        student = student_of(trained_teacher(clicks), clicks)
        student.fit(clicks.dataset(), verbose=0)
        logits = student.backbone(clicks.features).numpy()
        predicted = student.predict(clicks.dataset(), verbose=0)
        np.testing.assert_allclose(predicted, 1 / (1 + np.exp(-logits)), atol=1e-6)

    def test_calibration_moves_the_level_and_keeps_the_order(self, clicks):
        student = student_of(trained_teacher(clicks), clicks, student="soft")
        student.fit(clicks.dataset(), epochs=3, verbose=0)
        before = student.predict(clicks.dataset(), verbose=0)
        assert metrics.predicted_over_observed(clicks.labels, before) < 0.9
        assert "arbitrary" in student.output_meaning
        student.calibrate(clicks.dataset())
        after = student.predict(clicks.dataset(), verbose=0)
        assert metrics.predicted_over_observed(clicks.labels, after) == pytest.approx(1, abs=1e-3)
        assert "calibrated on held-out" in student.output_meaning
        # In float32 a few neighbours swap or become equal.
        assert metrics.auc(clicks.labels, after) == pytest.approx(
            metrics.auc(clicks.labels, before), abs=1e-5
        )

    def test_what_the_output_means(self, clicks):
        teacher = trained_teacher(clicks)
        assert teacher.output_meaning == "click rate"
        assert "weighed by confidence" in student_of(teacher, clicks).output_meaning
        distilled = student_of(teacher, clicks, None, distillation=0.5)
        assert distilled.output_meaning == "click rate"


class TestMetrics:
    def test_evaluation_is_of_the_clicks_as_logged(self, clicks):
        student = student_of(trained_teacher(clicks), clicks, student="soft")
        student.fit(clicks.dataset(), verbose=0)
        logged = student.evaluate(clicks.dataset(), return_dict=True, verbose=0)
        scores = student.predict(clicks.dataset(), verbose=0)
        assert logged["loss"] == pytest.approx(metrics.log_loss(clicks.labels, scores), abs=1e-5)
        # Bins of 1/64 make ties of logits that lie close together.
        assert logged["auc"] == pytest.approx(metrics.auc(clicks.labels, scores), abs=3e-3)
        by_group = metrics.auc_by_group(clicks.labels, scores, clicks.features[GROUP])
        for group, value in by_group.items():
            assert logged[f"auc_group_{group}"] == pytest.approx(value, abs=3e-3)

    def test_training_logs_the_mean_loss_and_the_confidence_of_clicks(self, clicks):
        teacher = trained_teacher(clicks)
        student = student_of(teacher, clicks, AffineConfidence(GROUPS), alpha=1.0)
        student.fit_confidence(clicks.dataset())
        logged = student.fit(clicks.dataset(), verbose=0).history
        scores = teacher.backbone(clicks.features)
        _, local = student.confidence(scores, tf.constant(clicks.features[GROUP]))
        clicked = clicks.labels == 1
        assert logged["confidence"][0] == pytest.approx(local.numpy()[clicked].mean(), abs=1e-5)
        second = clicked & (clicks.features[GROUP] == 1)
        expected = local.numpy()[second].mean()
        assert logged["confidence_group_1"][0] == pytest.approx(expected, abs=1e-5)

    def test_loss_is_a_mean_over_all_batches(self):
        model = ClickConfidenceModel(OneLogit())
        model.compile(keras.optimizers.SGD(0.0))
        data = batch_of([0.0] * 8, [1.0] * 8).unbatch().batch(3)
        logged = model.fit(data, verbose=0).history
        assert logged["loss"][0] == pytest.approx(np.log(2), abs=1e-6)

    def test_metrics_given_to_compile_see_labels_and_probabilities(self, clicks):
        model = ClickConfidenceModel(get_backbone("mlp", clicks.inputs, units=[8]))
        model.compile(metrics=[keras.metrics.BinaryAccuracy(name="right")])
        logged = model.fit(clicks.dataset(), validation_data=clicks.dataset(), verbose=0).history
        scores = model.predict(clicks.dataset(), verbose=0)
        right = np.mean((scores > 0.5) == (clicks.labels == 1))
        assert logged["val_right"][0] == pytest.approx(right, abs=1e-6)
        assert 0 < logged["right"][0] < 1


class TestKeras:
    def test_any_functional_model_is_a_backbone(self, clicks):
        inputs = keras_inputs(clicks.inputs)
        vectors = FusedEmbedding(clicks.inputs)(inputs)
        joined = keras.layers.Concatenate()([vectors["user"], vectors["item"]])
        model = ClickConfidenceModel(keras.Model(inputs, keras.layers.Dense(1)(joined)))
        model.compile("adam")
        model.fit(clicks.dataset(), verbose=0)  # no warning of the group, which is no input
        assert model.predict(clicks.dataset(), verbose=0).shape == (2000,)

    def test_a_model_as_teacher_stands_for_its_backbone(self, clicks):
        teacher = trained_teacher(clicks)
        assert student_of(teacher, clicks).teacher is teacher.backbone

    def test_comes_back_from_config_and_weights(self, clicks, tmp_path):
        student = student_of(trained_teacher(clicks), clicks, "affine", alpha=0.25)
        student.fit_confidence(clicks.dataset())
        student.fit(clicks.dataset(), verbose=0)
        student.save_weights(str(tmp_path / "weights"))
        other = ClickConfidenceModel.from_config(student.get_config())
        other.compile()
        other.load_weights(str(tmp_path / "weights"))
        np.testing.assert_array_equal(
            other.predict(clicks.dataset(), verbose=0), student.predict(clicks.dataset(), verbose=0)
        )
        assert other.confidence.table() == student.confidence.table()
        assert other.alpha == 0.25
        # It goes on as the other would.
        for model in (student, other):
            model.compile(keras.optimizers.SGD(0.1))
            model.fit(clicks.dataset(), verbose=0)
        np.testing.assert_allclose(
            other.predict(clicks.dataset(), verbose=0),
            student.predict(clicks.dataset(), verbose=0),
            atol=1e-6,
        )

    def test_fits_again_after_backup_and_restore(self, clicks, tmp_path):
        model = ClickConfidenceModel(get_backbone("mlp", clicks.inputs, units=[8]))
        model.compile("adam")
        backup = keras.callbacks.BackupAndRestore(str(tmp_path))
        model.fit(clicks.dataset(), callbacks=[backup], verbose=0)
        model.fit(clicks.dataset(), verbose=0)

    def test_two_replicas_learn_what_one_does(self, clicks, two_replicas):
        source = get_backbone("mlp", clicks.inputs, units=[8])
        source(clicks.features)

        def train() -> np.ndarray:
            teacher, student = (get_backbone("mlp", clicks.inputs, units=[8]) for _ in range(2))
            for backbone in (teacher, student):
                backbone(clicks.features)
                backbone.set_weights(source.get_weights())
            model = ClickConfidenceModel(student, teacher, "global", num_groups=GROUPS)
            model.compile(keras.optimizers.SGD(0.5))
            model.fit(clicks.dataset(batch_size=200), verbose=0)
            return student(clicks.features).numpy()

        alone = train()
        with two_replicas.scope():
            together = train()
        assert np.ptp(alone) > 0.1
        np.testing.assert_allclose(together, alone, atol=1e-4)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"confidence": "global"}, "need a teacher.*teacher=None"),
            ({"distillation": 0.5}, "need a teacher"),
            ({"teacher": Given()}, "The teacher would not be used"),
            ({"alpha": 2.0}, r"`alpha` must be in \[0, 1\]"),
            ({"teacher": Given(), "confidence": "local"}, "Unknown confidence function.*'local'"),
            (
                {"teacher": Given(), "confidence": AffineConfidence(4), "num_groups": 2},
                "agree on the number of groups.*num_groups=2 and 4",
            ),
            ({"teacher": len, "confidence": "global"}, "`teacher` must be a `tf_keras` layer"),
        ],
    )
    def test_arguments_that_make_no_sense(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ClickConfidenceModel(OneLogit(), **arguments)

    def test_own_teacher(self):
        layer = OneLogit()
        with pytest.raises(ValueError, match="its own frozen teacher"):
            ClickConfidenceModel(layer, layer, "global")

    def test_loss_in_compile(self):
        with pytest.raises(ValueError, match="The loss belongs to the model.*'mse'"):
            ClickConfidenceModel(OneLogit()).compile(loss="mse")

    def test_no_group_in_the_features(self):
        model = ClickConfidenceModel(OneLogit(), Given(), "global", num_groups=2)
        model.compile("sgd")
        with pytest.raises(ValueError, match="has 2 groups and finds none.*'_group'"):
            model.fit(batch_of([0.0], [1.0]), verbose=0)

    def test_batches_without_labels(self):
        model = ClickConfidenceModel(OneLogit())
        model.compile("sgd")
        with pytest.raises(ValueError, match=r"Batches must be \(features, label\)"):
            model.fit(tf.data.Dataset.from_tensors(tf.zeros([3])), verbose=0)

    def test_held_out_rows_that_never_end_or_never_come(self):
        model = ClickConfidenceModel(OneLogit(), Given(), AffineConfidence(1))
        data = batch_of([0.0, 1.0], [1.0, 0.0])
        with pytest.raises(ValueError, match="repeats forever"):
            model.fit_confidence(data.repeat())
        with pytest.raises(ValueError, match="The data set is empty"):
            model.fit_confidence(data.take(0))
