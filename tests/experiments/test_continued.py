"""Runs that go on from another run, on the rows of the next day."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.reader import steps_per_epoch
from experiments.runs import data_checksum
from tests.experiments.helpers import Killed, kill_after, scores_of


@pytest.fixture(scope="module")
def next_day(run, prepared, tmp_path_factory):
    """Another log of the same users and items, encoded like the first."""
    directory = tmp_path_factory.mktemp("next")
    flags = ["--rows=8000", "--users=600", "--items=300", "--seed=2"]
    run("data_pipeline.simulate", "--output_dir=log", *flags, cwd=directory)
    where = ["--spec=log/spec.toml", "--input=log", "--output_dir=prepared"]
    flags = [*where, f"--encoding_from={prepared}"]
    return directory / run("data_pipeline.prepare", *flags, cwd=directory).parent


@pytest.fixture(scope="module")
def first_day(configure, train, tmp_path_factory):
    config = configure("clsd", teacher="ema", options={"confidence": "affine"})
    return train(tmp_path_factory.mktemp("first") / "run", config)


@pytest.fixture
def continued(first_day, next_day):
    """The config of the run that goes on."""
    data = {"data_dir": str(next_day), "data": data_checksum(next_day)}
    return dataclasses.replace(first_day.config(), init_from=str(first_day.directory), **data)


def variable(run, name: str) -> np.ndarray:
    path = tf.train.latest_checkpoint(str(run.student / "checkpoints"))
    return tf.train.load_checkpoint(path).get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE")


def test_all_that_was_learned_goes_on(first_day, next_day, continued, train, tmp_path):
    run = train(tmp_path / "run", continued)
    steps = steps_per_epoch(next_day, "train", 256)
    assert variable(run, "batches") == steps
    before = variable(first_day, "batches")
    assert variable(run, "model/teacher/step") == before + steps
    fresh = train(tmp_path / "fresh", dataclasses.replace(continued, init_from=None))
    assert np.abs(scores_of(run) - scores_of(fresh)).max() > 0.01


@pytest.mark.slow
def test_killed_it_resumes_to_the_same_end(continued, train, tmp_path, monkeypatch):
    undisturbed = train(tmp_path / "undisturbed", continued)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 15)
        train(tmp_path / "killed", continued, checkpoint_steps=10)
    resumed = train(tmp_path / "killed", continued, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))


def test_a_frozen_teacher_goes_on_as_well(clsd, continued, train, tmp_path):
    config = dataclasses.replace(continued, teacher="frozen", init_from=str(clsd.directory))
    run = train(tmp_path / "run", config)
    config = dataclasses.replace(config, method="plain", options={})
    with pytest.raises(ValueError, match="cannot go on with other options.*method: now 'plain'"):
        train(tmp_path / "other", config)
    assert np.abs(scores_of(run, "teacher") - scores_of(run)).max() > 1e-3


def test_other_tables_are_refused(continued, train, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(continued.data_dir, other)
    (other / "vocab" / "item_id.txt").write_text("1\n")
    config = dataclasses.replace(continued, data_dir=str(other))
    with pytest.raises(ValueError, match=r"encoded by other tables.*--encoding_from"):
        train(tmp_path / "run", config)
