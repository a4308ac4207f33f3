"""Clicks that were scored before they were trained on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import ClickConfidenceModel
from clsd_tf.progressive import ProgressiveClicks


def count(clicks: ProgressiveClicks, *batches) -> None:
    clicks.counting.assign(True)
    for logits, labels, groups in batches:
        clicks.update(tf.constant(logits), tf.constant(labels), tf.constant(groups))


def test_later_batches_count_more_and_all_count_for_three_quarters():
    clicks = ProgressiveClicks(2, num_bins=32)
    steps = 200
    count(clicks, *([([0.5, -9.0], [1.0, 0.0], [0, 1])] * steps), ([3.5], [1.0], [1]))
    rows = clicks.rows()
    assert rows.weights.sum() == pytest.approx(0.75 * 2 * steps, rel=0.02)
    last = (rows.groups == 1) & (rows.labels == 1)
    first = (rows.groups == 0) & (rows.labels == 1)
    assert rows.logits[last] == pytest.approx([3.5])
    # The last of 201 steps counts 201 times; the 200 before it 1 + ... + 200 times in all.
    assert rows.weights[last] / rows.weights[first] == pytest.approx([201 / 20_100])


def test_counts_in_the_first_pass_alone():
    clicks = ProgressiveClicks(1)
    clicks.update(tf.constant([0.0]), tf.constant([1.0]), tf.constant([0]))
    with pytest.raises(ValueError, match="no progressively scored clicks"):
        clicks.rows()


def mlp() -> tf.keras.Model:
    inputs = {"x": tf.keras.Input((1,), name="x")}
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(inputs["x"]))


def test_a_model_scores_the_rows_of_its_first_epoch_before_it_learns_from_them():
    features = {"x": np.ones((8, 1), np.float32)}
    rows = tf.data.Dataset.from_tensor_slices((features, np.ones(8, np.float32))).batch(2)
    model = ClickConfidenceModel(mlp())
    model.compile("sgd")
    first = model.backbone(features)[0, 0].numpy()
    model.fit(rows, epochs=3, verbose=0)
    found = model.progressive_clicks
    assert found.weights.sum() == pytest.approx(8 * 10 / 12)  # (1+2+3+4)^2 / (1+4+9+16) * 2 rows
    assert found.logits.min() == pytest.approx(first, abs=1 / 64 + 1e-6)
    model.train_on_batch(features, np.ones(8, np.float32))  # outside of `fit` nothing is known
    assert model.progressive_clicks.weights.sum() == pytest.approx(found.weights.sum())


def test_replicas_count_the_global_batch(two_replicas):
    with two_replicas.scope():
        clicks = ProgressiveClicks(1, num_bins=32)
    clicks.counting.assign(True)

    def update():
        clicks.update(tf.constant([0.5]), tf.constant([1.0]), tf.constant([0]))

    two_replicas.run(tf.function(update))
    assert clicks.rows().weights.sum() == pytest.approx(2.0)
