"""Replicas with different numbers of rows train as one device does on all of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.distributed import from_chief, is_in_charge
from tests.clsd_tf.conftest import NUM_GROUPS

# Rows of each replica in each step: the last batch of a worker may be short, or have no rows.
ROWS = ((40, 24), (30, 0))


def student(clicks) -> clsd_tf.ClickConfidenceModel:
    def backbone(seed):
        keras.utils.set_random_seed(seed)
        layer = clsd_tf.get_backbone("mlp", clicks.inputs, units=[8])
        layer({name: values[:1] for name, values in clicks.features.items()})
        return layer

    model = clsd_tf.ClickConfidenceModel(
        backbone(1), backbone(2), "global", num_groups=NUM_GROUPS, student="weight"
    )
    model.compile()
    return model


def batches(clicks, sizes) -> tf.data.Dataset:
    starts = np.cumsum([0, *sizes])
    clicks.weights[:] = 1.0 + np.arange(len(clicks.weights)) % 3
    whole = (clicks.features, clicks.labels, clicks.weights)

    def slices(start, stop):
        return tf.nest.map_structure(lambda values: tf.constant(values)[start:stop], whole)

    bounds = tf.data.Dataset.from_tensor_slices((starts[:-1], starts[1:]))
    return bounds.map(slices)


def test_uneven_replicas_train_as_one_device_does(clicks, two_replicas):
    alone = student(clicks)
    history = alone.fit(batches(clicks, map(sum, ROWS)), verbose=0)
    with two_replicas.scope():
        together = student(clicks)
        rows = two_replicas.distribute_datasets_from_function(
            lambda context: batches(clicks, [size for step in ROWS for size in step])
        )
    shared = together.fit(rows, steps_per_epoch=len(ROWS), verbose=0)
    layers = ("backbone", "confidence", "mean_weight", "progressive")
    for name in layers:
        pairs = zip(getattr(alone, name).weights, getattr(together, name).weights, strict=True)
        for one, other in pairs:
            first, second = (c.numpy() for c in two_replicas.experimental_local_results(other))
            np.testing.assert_array_equal(first, second, other.name)
            np.testing.assert_allclose(first, one.numpy(), rtol=1e-4, atol=1e-6)
    for name, (value,) in history.history.items():
        assert shared.history[name] == [pytest.approx(value, rel=1e-5)], name


def test_processes_agree_on_what_the_chief_says(two_replicas):
    assert from_chief(two_replicas, 41) == 41
    assert from_chief(tf.distribute.get_strategy(), -1) == -1
    assert is_in_charge(two_replicas)
    assert is_in_charge(tf.distribute.get_strategy())
