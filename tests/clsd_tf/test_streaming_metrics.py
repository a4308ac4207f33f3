"""Keras metrics against the exact ones, in a loop, in `fit` and on two replicas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import metrics
from clsd_tf.streaming_metrics import GroupAUC, GroupMean

NUM_GROUPS = 3


def reference_means(values, groups, weights) -> dict[str, float]:
    means = {"mean": float(np.sum(values * weights) / np.sum(weights))}
    for g in range(NUM_GROUPS):
        of_group = groups == g
        weight = np.sum(weights[of_group])
        total = np.sum((values * weights)[of_group])
        means[f"mean_group_{g}"] = float(total / weight) if weight else math.nan
    return means


def reference_aucs(labels, logits, groups) -> dict[str, float]:
    by_group = metrics.auc_by_group(labels, logits, groups)
    return {"auc": metrics.auc(labels, logits)} | {
        f"auc_group_{g}": by_group.get(g, math.nan) for g in range(NUM_GROUPS)
    }


def as_floats(result: dict[str, tf.Tensor]) -> dict[str, float]:
    return {key: float(value) for key, value in result.items()}


@pytest.fixture(params=[-1.0, -7.0], ids=["common clicks", "rare clicks"])
def rows(request):
    """Labels, logits and groups."""
    rng = np.random.default_rng(0)
    size = 6000 if request.param > -2 else 200_000
    groups = rng.integers(0, NUM_GROUPS, size)
    logits = rng.normal(request.param, 1.0, size).astype(np.float32)
    slope = np.array([0.2, 1.0, 2.0])[groups]
    probability = 1 / (1 + np.exp(-request.param - slope * (logits - request.param)))
    return (rng.random(size) < probability).astype(np.int64), logits, groups


def batches(*columns: np.ndarray, num: int = 5):
    return zip(*(np.array_split(column, num) for column in columns), strict=True)


class TestGroupAUC:
    def test_approaches_the_exact_one(self, rows):
        metric = GroupAUC(NUM_GROUPS)
        for labels, logits, groups in batches(*rows):
            metric.update_state(labels, logits, groups)
        received = as_floats(metric.result())
        assert received == pytest.approx(reference_aucs(*rows), abs=2e-4)
        assert received["auc_group_2"] > received["auc_group_0"] + 0.1

    def test_by_hand(self):
        # Clicks at 2 and 4, non-clicks at 1, 2, 5: (1 + 1/2 + 0 + 1 + 1 + 0) / 6.
        metric = GroupAUC(2)
        metric.update_state([0, 1, 0, 1, 0], [1.0, 2.0, 2.0, 4.0, 5.0], [1, 1, 1, 1, 1])
        received = as_floats(metric.result())
        assert received["auc"] == received["auc_group_1"] == pytest.approx(3.5 / 6)
        assert math.isnan(received["auc_group_0"])

    def test_is_nan_without_both_classes_and_after_reset(self):
        metric = GroupAUC(1)
        assert math.isnan(float(metric.result()["auc"]))
        metric.update_state([1, 1], [1.0, 2.0], [0, 0])
        assert math.isnan(float(metric.result()["auc"]))
        metric.update_state([0], [0.0], [0])
        assert float(metric.result()["auc"]) == 1.0
        metric.reset_state()
        assert math.isnan(float(metric.result()["auc"]))

    def test_order_and_batching_do_not_matter(self, rows):
        order = np.random.default_rng(1).permutation(len(rows[0]))
        one, other = GroupAUC(NUM_GROUPS), GroupAUC(NUM_GROUPS)
        one.update_state(*rows)
        for labels, logits, groups in batches(*(column[order] for column in rows), num=9):
            other.update_state(labels, logits, groups)
        np.testing.assert_array_equal(one.histogram, other.histogram)

    def test_weights_mask_and_soft_labels_split(self, rows):
        labels, logits, groups = rows
        kept = groups != 1
        masked, subset = GroupAUC(NUM_GROUPS), GroupAUC(NUM_GROUPS)
        masked.update_state(labels, logits, groups, sample_weight=kept)
        subset.update_state(labels[kept], logits[kept], groups[kept])
        np.testing.assert_array_equal(masked.histogram, subset.histogram)

        split, pair = GroupAUC(1), GroupAUC(1)
        split.update_state([0.25, 0], [1.0, 0.0], [0, 0])
        pair.update_state([1, 0, 0], [1.0, 1.0, 0.0], [0, 0, 0], sample_weight=[0.25, 0.75, 1])
        np.testing.assert_array_equal(split.histogram, pair.histogram)

    def test_logits_out_of_range_keep_their_side(self):
        metric = GroupAUC(1)
        metric.update_state([1, 0], [1e30, -1e30], [0, 0])
        assert float(metric.result()["auc"]) == 1.0

    def test_two_replicas_add_up(self, rows, two_replicas):
        with two_replicas.scope():
            metric = GroupAUC(NUM_GROUPS)
        run_on_replicas(two_replicas, metric, *rows)
        assert as_floats(metric.result()) == pytest.approx(reference_aucs(*rows), abs=2e-4)


class TestGroupMean:
    def test_equals_the_formula(self, rows):
        labels, logits, groups = rows
        metric = GroupMean(NUM_GROUPS)
        for batch_labels, batch_logits, batch_groups in batches(labels, logits, groups):
            metric.update_state(batch_logits, batch_groups, sample_weight=batch_labels)
        expected = reference_means(logits, groups, labels)
        assert as_floats(metric.result()) == pytest.approx(expected, rel=1e-4)

    def test_without_weights_and_with_an_empty_group(self):
        metric = GroupMean(NUM_GROUPS, name="confidence")
        metric.update_state([0.25, 0.75, 2.0], [0, 0, 2])
        expected = {
            "confidence": 1.0,
            "confidence_group_0": 0.5,
            "confidence_group_1": math.nan,
            "confidence_group_2": 2.0,
        }
        assert as_floats(metric.result()) == pytest.approx(expected, nan_ok=True)

    def test_two_replicas_add_up(self, rows, two_replicas):
        _, logits, groups = rows
        with two_replicas.scope():
            metric = GroupMean(NUM_GROUPS)
        run_on_replicas(two_replicas, metric, logits, groups)
        expected = reference_means(logits, groups, np.ones(len(logits)))
        assert as_floats(metric.result()) == pytest.approx(expected, rel=1e-4)


def run_on_replicas(strategy, metric, *columns):
    """Updates the metric with a quarter of the rows on one replica, the rest on the other."""
    parts = [np.split(column, [len(column) // 4]) for column in columns]
    values = [
        strategy.experimental_distribute_values_from_function(
            lambda context, part=part: tf.constant(part[context.replica_id_in_sync_group])
        )
        for part in parts
    ]

    @tf.function
    def update(*values):
        strategy.run(lambda *args: metric.update_state(*args), args=values)

    update(*values)


class Grouped(keras.Model):
    """Logs both metrics from its own train and test step."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")
        self.auc = GroupAUC(NUM_GROUPS)
        self.mean = GroupMean(NUM_GROUPS)

    def test_step(self, data):
        (values, groups), labels = data
        logits = self.dense(values)[:, 0]
        self.auc.update_state(labels, logits, groups)
        self.mean.update_state(logits, groups)
        return self.get_metrics_result()

    def train_step(self, data):
        return self.test_step(data)


EXPECTED_KEYS = {
    name + suffix for name in ("auc", "mean") for suffix in ("", "_group_0", "_group_1", "_group_2")
}


def test_fit_and_evaluate_log_every_entry_by_name(rows):
    labels, logits, groups = (column[:2000] for column in rows)
    data = tf.data.Dataset.from_tensor_slices(((logits[:, None], groups), labels)).batch(250)
    model = Grouped()
    model.compile()
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert set(history) == EXPECTED_KEYS | {f"val_{key}" for key in EXPECTED_KEYS}
    evaluated = model.evaluate(data, return_dict=True, verbose=0)
    assert set(evaluated) == EXPECTED_KEYS
    # The weights do not move: what is reset between epochs gives the same again.
    for key in EXPECTED_KEYS:
        assert history[f"val_{key}"][-1] == pytest.approx(evaluated[key], nan_ok=True)
    assert evaluated["auc"] == pytest.approx(metrics.auc(labels, logits), abs=2e-3)


@pytest.mark.parametrize("metric", [GroupAUC(4, num_bins=64, name="a"), GroupMean(4, name="b")])
def test_serialises(metric):
    restored = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(restored) is type(metric)
    assert restored.get_config() == metric.get_config()
    assert list(restored.result()) == list(metric.result())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GroupAUC(0), "`num_groups` must be at least 1. Received: num_groups=0"),
        (lambda: GroupAUC(1, num_bins=0), "`num_bins` must be at least 1"),
        (lambda: GroupMean(-1), "`num_groups` must be at least 1"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
