"""A training that was killed ends where an undisturbed one ends."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.callbacks import StepCheckpoint
from clsd_tf.model import ClickConfidenceModel
from tests.marks import slow

STEPS = 16  # 2000 rows in batches of 128


class Killed(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    """Dies after a batch."""

    def __init__(self, batch: int):
        super().__init__()
        self._left = batch

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if not self._left:
            raise Killed


def build(clicks, units: int = 8) -> ClickConfidenceModel:
    keras.utils.set_random_seed(5)
    teacher, backbone = (get_backbone("mlp", clicks.inputs, units=[units]) for _ in range(2))
    model = ClickConfidenceModel(backbone, teacher, "affine", num_groups=3, distillation=0.2)
    model.compile()
    return model


def train(clicks, model, checkpoint, callbacks=(), epochs: int = 2) -> np.ndarray:
    done = checkpoint.restore(model)
    if not done:
        model.fit_confidence(clicks.dataset().take(5))
    for epoch in range(done // STEPS, epochs):
        rest = clicks.dataset().skip(max(0, done - epoch * STEPS))
        model.fit(
            rest,
            epochs=epoch + 1,
            initial_epoch=epoch,
            verbose=0,
            callbacks=[checkpoint, *callbacks],
        )
    return model.predict(clicks.dataset(), verbose=0)


@pytest.mark.parametrize("killed_after", [3, *map(slow, [11, 16]), 23])
def test_resumes_exactly(clicks, tmp_path, killed_after):
    undisturbed = train(clicks, build(clicks), StepCheckpoint(tmp_path / "a", every=5))
    with pytest.raises(Killed):
        train(clicks, build(clicks), StepCheckpoint(tmp_path / "b", 5), [KillAt(killed_after)])
    # In another process nothing of the old one is left but the directory.
    resumed = train(clicks, build(clicks), StepCheckpoint(tmp_path / "b", every=5))
    np.testing.assert_array_equal(resumed, undisturbed)


class Logs(keras.callbacks.Callback):
    """What was logged of each epoch."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(logs)


@pytest.mark.parametrize("killed_after", [slow(8), 23])
def test_means_of_the_interrupted_epoch_go_on(clicks, tmp_path, killed_after):
    undisturbed, resumed = Logs(), Logs()
    train(clicks, build(clicks), StepCheckpoint(tmp_path / "a", every=5), [undisturbed])
    with pytest.raises(Killed):
        train(clicks, build(clicks), StepCheckpoint(tmp_path / "b", 5), [KillAt(killed_after)])
    train(clicks, build(clicks), StepCheckpoint(tmp_path / "b", every=5), [resumed])
    assert resumed.epochs[-1].keys() == undisturbed.epochs[-1].keys()
    for name, value in undisturbed.epochs[-1].items():
        assert resumed.epochs[-1][name] == pytest.approx(value, rel=1e-6), name


def test_a_finished_epoch_leaves_nothing_to_count(clicks, tmp_path):
    train(clicks, build(clicks), StepCheckpoint(tmp_path), epochs=1)
    model = build(clicks)
    StepCheckpoint(tmp_path).restore(model)
    assert not bool(model.progressive.counting)


def test_position_is_that_of_the_latest_checkpoint(clicks, tmp_path):
    with pytest.raises(Killed):
        train(clicks, build(clicks), StepCheckpoint(tmp_path, every=5), [KillAt(12)])
    assert StepCheckpoint(tmp_path).restore(build(clicks)) == 10


def test_the_end_of_an_epoch_is_saved(clicks, tmp_path):
    train(clicks, build(clicks), StepCheckpoint(tmp_path, every=1000), epochs=1)
    assert StepCheckpoint(tmp_path).restore(build(clicks)) == STEPS


def test_several_batches_a_step_are_counted(clicks, tmp_path):
    model = build(clicks)
    model.fit_confidence(clicks.dataset())
    model.compile(steps_per_execution=4)
    model.fit(clicks.dataset().take(12), verbose=0, callbacks=[StepCheckpoint(tmp_path, every=1)])
    assert StepCheckpoint(tmp_path).restore(build(clicks)) == 12


def test_a_forgotten_restore_is_no_silent_replay(clicks, tmp_path):
    train(clicks, build(clicks), StepCheckpoint(tmp_path), epochs=1)
    with pytest.raises(RuntimeError, match="There is a checkpoint.*already.*Call `restore"):
        build(clicks).fit(clicks.dataset(), verbose=0, callbacks=[StepCheckpoint(tmp_path)])


def test_a_checkpoint_of_another_model_is_refused(clicks, tmp_path):
    train(clicks, build(clicks), StepCheckpoint(tmp_path), epochs=1)
    other = build(clicks, units=5)
    other(clicks.features)
    with pytest.raises(RuntimeError, match="does not fit the model"):
        StepCheckpoint(tmp_path).restore(other)


def test_every_is_positive(tmp_path):
    with pytest.raises(ValueError, match="`every` must be at least 1 batch.*every=0"):
        StepCheckpoint(tmp_path, every=0)
