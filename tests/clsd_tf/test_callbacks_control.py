"""Callbacks say what they saw, and act when they have to."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import metrics
from clsd_tf.callbacks_control import BestExport, EarlyStoppingOnMean, NaNStop, TeacherRefresh
from clsd_tf.callbacks_monitoring import (
    ConfidenceMonitor,
    GroupedValidation,
    Throughput,
    confidence_table,
)
from clsd_tf.ema import EMATeacher
from clsd_tf.model import ClickConfidenceModel


def attached(callback: keras.callbacks.Callback, **model) -> keras.callbacks.Callback:
    """A callback that sees a model of nothing but the given attributes."""
    callback.set_model(types.SimpleNamespace(trainable_variables=[], **model))
    return callback


class TestBestExport:
    def exported(self, values, **options) -> list[int]:
        epochs = []
        callback = attached(BestExport(lambda model: epochs.append(len(seen)), "m", **options))
        seen = []
        for value in values:
            callback.on_epoch_end(len(seen), {"m": value})
            seen.append(value)
        return epochs

    def test_exports_what_is_better_than_all_before(self):
        assert self.exported([0.6, 0.5, math.nan, 0.7, 0.7]) == [0, 3]
        assert self.exported([0.6, 0.5, 0.7], mode="min") == [0, 1]

    def test_a_metric_that_is_not_logged(self):
        with pytest.raises(ValueError, match="finds no `val_auc`.*Received: loss.*validation_data"):
            attached(BestExport(lambda model: None)).on_epoch_end(0, {"loss": 1.0})
        with pytest.raises(ValueError, match="'max' or 'min'.*'best'"):
            BestExport(lambda model: None, mode="best")


class TestNaNStop:
    def data(self, **broken) -> list[tuple]:
        first = {"age": np.ones(3, np.float32), "id": np.arange(3), "list": np.ones((3, 2))}
        second = {**first, **broken}
        labels = np.zeros(3)
        return [(first, labels), (second, labels)]

    def test_names_batch_and_feature(self):
        age = np.array([1.0, np.nan, np.inf], np.float32)
        callback = attached(NaNStop(self.data(age=age)))
        callback.on_epoch_begin(2)
        callback.on_train_batch_end(6, {"loss": 1.0})
        message = "after batch 7 of epoch 2. Received: Feature `age` .* in batch 1.*rows 1, 2"
        with pytest.raises(RuntimeError, match=message):
            callback.on_train_batch_end(7, {"loss": math.nan})

    def test_names_a_list_and_the_label(self):
        broken = np.array([[1.0, 1.0], [1.0, np.nan], [1.0, 1.0]])
        with pytest.raises(RuntimeError, match="`list` is not finite in batch 1.*rows 1"):
            attached(NaNStop(self.data(list=broken))).on_train_batch_end(0, {"loss": math.inf})
        data = [({"x": np.ones(2)}, np.array([np.nan, 1.0]))]
        with pytest.raises(RuntimeError, match="The label is not finite in batch 0"):
            attached(NaNStop(data)).on_train_batch_end(0, {"loss": math.nan})

    def test_a_training_that_diverged_by_itself(self):
        callback = NaNStop(self.data())
        broken = tf.Variable([1.0, math.nan], name="kernel")
        callback.set_model(types.SimpleNamespace(trainable_variables=[broken, tf.Variable(1.0)]))
        with pytest.raises(RuntimeError, match=r"diverged.*numbers: kernel:0. Lower"):
            callback.on_train_batch_end(0, {"loss": math.nan})


class TestEarlyStopping:
    def epochs(self, values, **options) -> int:
        """Epochs until it stops."""
        callback = attached(EarlyStoppingOnMean("val_auc", mode="max", **options))
        callback.on_train_begin()
        for epoch, value in enumerate(values):
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch, {"val_auc": value})
            if getattr(callback.model, "stop_training", False):
                return epoch + 1
        return len(values)

    def test_one_bad_epoch_ends_nothing(self):
        values = [0.60, 0.64, 0.63, 0.66, 0.65, 0.68]
        assert self.epochs(values, window=1, patience=1) == 3
        assert self.epochs(values, window=3, patience=1) == 6

    def test_metrics_of_training_are_means_over_batches(self):
        callback = attached(EarlyStoppingOnMean("loss", window=1))
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        for batch, loss in enumerate([1.0, 2.0, 6.0]):
            callback.on_train_batch_end(batch, {"loss": loss})
        assert callback.get_monitor_value({"loss": 6.0}) == 3.0

    def test_mistakes(self):
        with pytest.raises(ValueError, match="`window` must be at least 1"):
            EarlyStoppingOnMean(window=0)
        with pytest.raises(ValueError, match="finds no `val_loss`.*Received: loss"):
            attached(EarlyStoppingOnMean()).on_epoch_end(0, {"loss": 1.0})


def dense(start: float) -> keras.Sequential:
    layer = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(start))
    return keras.Sequential([keras.Input((1,)), layer])


class TestTeacherRefresh:
    def model(self, confidence="global") -> ClickConfidenceModel:
        return ClickConfidenceModel(dense(3.0), dense(1.0), confidence)

    def test_a_generation_and_an_average(self):
        for decay, expected in ((0.0, 3.0), (0.75, 1.5)):
            callback, model = TeacherRefresh(every=2, decay=decay), self.model()
            callback.set_model(model)
            callback.on_train_begin()
            for epoch in (0, 1):
                callback.on_epoch_begin(epoch)
            assert model.teacher.get_weights()[0].item() == 1.0
            callback.on_epoch_begin(2)
            assert model.teacher.get_weights()[0].item() == expected
            assert model.backbone.get_weights()[0].item() == 3.0

    def test_confidence_is_fitted_again(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(400, 1)).astype(np.float32)
        clicks = (rng.random(400) < 1 / (1 + np.exp(-3.0 * x[:, 0]))).astype(np.float32)
        rows = tf.data.Dataset.from_tensors((x, clicks))
        model = self.model("affine")
        model.fit_confidence(rows)
        callback = TeacherRefresh(held_out=rows)
        callback.set_model(model)
        before = model.confidence(tf.constant([2.0]), tf.constant([0]))[0].numpy().item()
        callback.on_epoch_begin(1)
        after = model.confidence(tf.constant([2.0]), tf.constant([0]))[0].numpy().item()
        assert after < before - 0.01  # the new teacher's logits are three times as large

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (lambda: ClickConfidenceModel(dense(1.0)), "whose teacher is NoneType"),
            (
                lambda: ClickConfidenceModel(dense(1.0), EMATeacher(dense(1.0)), "global"),
                "whose teacher is EMATeacher",
            ),
            (
                lambda: ClickConfidenceModel(dense(1.0), dense(1.0), "affine"),
                "of AffineConfidence is fitted on held-out rows.*held_out=None",
            ),
        ],
    )
    def test_teachers_that_cannot_be_renewed(self, model, message):
        callback = TeacherRefresh()
        callback.set_model(model())
        with pytest.raises(ValueError, match=message):
            callback.on_train_begin()

    def test_options(self):
        with pytest.raises(ValueError, match=r"`decay` in \[0, 1\).*decay=1"):
            TeacherRefresh(decay=1.0)


class TestMonitoring:
    def rows(self) -> tuple[dict, np.ndarray]:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 1)).astype(np.float32)
        users = rng.integers(0, 20, 300)
        return {"x": x, "_user": users, "_group": users % 2}, rng.integers(0, 2, 300)

    def test_exact_aucs_of_any_model(self):
        features, clicks = self.rows()
        data = tf.data.Dataset.from_tensor_slices((features, clicks)).batch(128)
        callback = GroupedValidation(data, group_key="_group")
        callback.set_model(dense(2.0))
        logs = {}
        callback.on_epoch_end(0, logs)
        scores = 2.0 * features["x"][:, 0]
        assert logs["val_exact_auc"] == metrics.auc(clicks, scores)
        assert logs["val_gauc"] == metrics.gauc(clicks, scores, features["_user"]).value
        by_group = metrics.auc_by_group(clicks, scores, features["_group"])
        assert logs["val_exact_auc_group_1"] == by_group[1]

    def test_users_that_are_not_told_apart(self):
        data = [({"x": np.ones((2, 1))}, np.ones(2))]
        callback = GroupedValidation(data)
        callback.set_model(dense(1.0))
        with pytest.raises(ValueError, match="Received: x. Expected also: _user"):
            callback.on_epoch_end(0, {})

    def test_histograms_and_the_table_of_groups(self, tmp_path):
        features, clicks = self.rows()
        data = tf.data.Dataset.from_tensor_slices((features, clicks)).batch(128)
        model = ClickConfidenceModel(dense(1.0), dense(1.0), "global", num_groups=2)
        for labels in (clicks,):  # moments of the clicks
            logits = model.teacher(features["x"])[:, 0]
            model.confidence.update(logits, labels.astype(np.float32), features["_group"])
        callback = ConfidenceMonitor(data, tmp_path)
        callback.set_model(model)
        callback.on_train_begin()
        logs = {}
        callback.on_epoch_end(0, logs)
        callback.on_train_end()
        assert 0.4 < logs["monitored_confidence"] < 0.6
        (path,) = tmp_path.glob("events*")
        values = {
            value.tag: value
            for record in tf.data.TFRecordDataset(str(path))
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
        }
        assert {"confidence/all", "confidence/group_0", "confidence/group_1"} <= set(values)
        text = values["confidence/groups"].tensor.string_val[0].decode()
        assert f"| all | {int(clicks.sum())} | {logs['monitored_confidence']:.3f} |" in text

    def test_a_model_without_confidence(self, tmp_path):
        callback = ConfidenceMonitor([], tmp_path)
        callback.set_model(ClickConfidenceModel(dense(1.0)))
        with pytest.raises(ValueError, match="without a confidence function"):
            callback.on_train_begin()

    def test_a_group_without_clicks_has_an_empty_line(self):
        table = confidence_table(["a", "b"], [np.array([0.5, 0.7]), np.array([])])
        assert table.splitlines()[2:] == [
            "| a | 2 | 0.600 | 0.520 | 0.600 | 0.680 |",
            "| b | 0 |  |  |  |  |",
        ]

    def test_throughput_leaves_out_the_first_batch(self, monkeypatch):
        clock = iter([10.0, 11.0, 12.0])
        monkeypatch.setattr("time.perf_counter", lambda: next(clock))
        monkeypatch.setattr("time.process_time", lambda: 0.0)
        callback, logs = Throughput(batch_size=50), {}
        callback.on_epoch_begin(0)
        for batch in range(3):
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(0, logs)
        assert logs == {"examples_per_second": 50.0, "cpu_microseconds": 0.0}
        with pytest.raises(ValueError, match="`batch_size` must be >= 1"):
            Throughput(0)
