"""Running moments against decayed sums in NumPy, on one and on two replicas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.running_moments import RunningClickMoments

Batches = list[tuple[np.ndarray, np.ndarray]]


def reference_moments(batches: Batches, decay: float) -> tuple[float, float]:
    """Mean and standard deviation from decayed count, sum and sum of squares, in float64."""
    sums = np.zeros(3)
    for values, labels in batches:
        clicked = values[labels == 1].astype(np.float64)
        sums = decay * sums + [len(clicked), clicked.sum(), np.square(clicked).sum()]
    mean = sums[1] / sums[0]
    return mean, np.sqrt(sums[2] / sums[0] - mean**2)


def make_batches(sizes: list[int], loc: float = -1.0, scale: float = 2.0) -> Batches:
    rng = np.random.default_rng(0)
    drift = enumerate(sizes)
    return [
        (rng.normal(loc + 0.3 * i, scale, size).astype(np.float32), rng.integers(0, 2, size))
        for i, size in drift
    ]


def updated(batches: Batches, decay: float) -> RunningClickMoments:
    moments = RunningClickMoments(decay)
    for values, labels in batches:
        moments.update(tf.constant(values), tf.constant(labels))
    return moments


def assert_moments(moments: RunningClickMoments, expected: tuple[float, float], rtol=1e-5):
    received = [float(moments.mean), float(moments.standard_deviation)]
    np.testing.assert_allclose(received, expected, rtol=rtol)


@pytest.mark.parametrize("decay", [0.5, 0.99, 1.0])
def test_equals_decayed_sums(decay):
    batches = make_batches([64, 3, 200, 64])
    assert_moments(updated(batches, decay), reference_moments(batches, decay))


def test_first_batch_is_exact():
    ((values, labels),) = batches = make_batches([50])
    clicked = values[labels == 1]
    assert_moments(updated(batches, 0.99), (clicked.mean(), clicked.std()))


def test_by_hand():
    # Clicks 1 and 3, then 5, at decay 1/2: weights 1/2, 1/2, 1. Mean (0.5 + 1.5 + 5) / 2 = 3.5,
    # variance (0.5 * 6.25 + 0.5 * 0.25 + 2.25) / 2 = 2.75.
    batches = [(np.array([1.0, 3.0, 99.0]), np.array([1, 1, 0])), (np.array([5.0]), np.array([1]))]
    moments = updated(batches, 0.5)
    assert float(moments.count) == pytest.approx(2.0)
    assert_moments(moments, (3.5, np.sqrt(2.75)))


def test_large_means_do_not_cancel():
    batches = make_batches([500, 500, 500], loc=20_000.0, scale=1.0)
    assert_moments(updated(batches, 0.9), reference_moments(batches, 0.9), rtol=2e-3)


def test_batch_without_clicks_keeps_the_moments():
    batches = make_batches([100])
    moments = updated(batches, 0.9)
    before = [float(moments.mean), float(moments.standard_deviation)]
    moments.update(tf.constant([7.0, float("nan")]), tf.constant([0, 0]))
    assert_moments(moments, tuple(before), rtol=1e-6)


def test_standardises_clicks_and_is_zero_without_any():
    values, labels = make_batches([300])[0]
    moments = RunningClickMoments()
    np.testing.assert_array_equal(moments(values), np.zeros(300))
    moments.update(values, labels)
    standardised = moments(values).numpy()[labels == 1]
    assert standardised.mean() == pytest.approx(0.0, abs=1e-5)
    assert standardised.std() == pytest.approx(1.0, rel=1e-5)


def test_has_no_trainable_weights():
    assert not RunningClickMoments().trainable_weights


def test_two_replicas_hold_the_moments_of_the_global_batch(two_replicas):
    batches = make_batches([64, 10, 32])
    with two_replicas.scope():
        moments = RunningClickMoments(0.9)

    @tf.function
    def step(values, labels):
        def replica_fn(values, labels):
            moments.update(values, labels)
            return tf.stack([moments.mean, moments.standard_deviation])

        return two_replicas.experimental_local_results(
            two_replicas.run(replica_fn, args=(values, labels))
        )

    for values, labels in batches:
        # Uneven halves, so that the mean of the replicas' means would be wrong.
        parts = np.split(values, [len(values) // 4]), np.split(labels, [len(labels) // 4])
        distributed = [
            two_replicas.experimental_distribute_values_from_function(
                lambda context, part=part: tf.constant(part[context.replica_id_in_sync_group])
            )
            for part in parts
        ]
        on_replicas = step(*distributed)
    expected = reference_moments(batches, 0.9)
    for received in on_replicas:
        np.testing.assert_allclose(received, expected, rtol=1e-5)
    assert_moments(moments, expected)


def test_saves_and_restores(tmp_path):
    batches = make_batches([40, 40])
    moments = updated(batches, 0.7)
    path = tf.train.Checkpoint(moments=moments).write(str(tmp_path / "checkpoint"))
    restored = RunningClickMoments.from_config(moments.get_config())
    tf.train.Checkpoint(moments=restored).read(path).assert_consumed()
    for other in (moments, restored):
        other.update(tf.constant([1.0, 9.0]), tf.constant([1, 1]))
    assert_moments(restored, (float(moments.mean), float(moments.standard_deviation)))
    assert keras.saving.get_registered_object("clsd_tf>RunningClickMoments") is RunningClickMoments


@pytest.mark.parametrize("decay", [0.0, 1.5, -1.0])
def test_decay_must_be_in_range(decay):
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\]. Received: decay="):
        RunningClickMoments(decay)
