"""Runs that go on from another run, on the rows of the next day."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import Encoder
from data_pipeline.manifest import data_checksum
from data_pipeline.reader import steps_per_epoch
from experiments.evaluation import score_split
from experiments.models import load_model
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


@pytest.mark.slow
def test_a_copied_teacher_goes_on_where_it_was_trained(
    plain, configure, continued, train, tmp_path
):
    options = {"confidence": "global"}
    first = train(tmp_path / "first", configure(options=options, teacher_dir=str(plain.directory)))
    data = {"data_dir": continued.data_dir, "data": continued.data}
    goes_on = dataclasses.replace(
        first.config(), init_from=str(first.directory), teacher_dir=None, **data
    )
    run = train(tmp_path / "run", goes_on)
    of_plain = dataclasses.replace(
        plain.config(), init_from=str(plain.directory), seed=1000, **data
    )
    alone = train(tmp_path / "alone", of_plain)
    np.testing.assert_array_equal(scores_of(run, "teacher"), scores_of(alone))
    # Or yesterday's teacher is copied again, to which the rows of today are new.
    again = train(
        tmp_path / "again", dataclasses.replace(goes_on, teacher_dir=str(plain.directory))
    )
    score = score_split(
        load_model(plain, plain.config()), Encoder.load(run.encoding), **of_valid(run)
    )
    np.testing.assert_array_equal(scores_of(again, "teacher"), score.scores)


def of_valid(run) -> dict[str, str]:
    return {"data_dir": run.config().data_dir, "split": "valid"}


@pytest.fixture(scope="module")
def grown_day(run, prepared, tmp_path_factory):
    """A log with further users and items, which get ids of their own."""
    directory = tmp_path_factory.mktemp("grown")
    flags = ["--rows=8000", "--users=900", "--items=400", "--seed=3"]
    run("data_pipeline.simulate", "--output_dir=log", *flags, cwd=directory)
    where = ["--spec=log/spec.toml", "--input=log", "--output_dir=prepared"]
    flags = [*where, f"--encoding_from={prepared}", "--grow_vocabulary"]
    return directory / run("data_pipeline.prepare", *flags, cwd=directory).parent


@pytest.mark.slow
def test_a_run_goes_on_with_vocabularies_that_have_grown(
    first_day, grown_day, continued, train, tmp_path, monkeypatch
):
    old, new = (Encoder.load(d).model_features for d in (first_day.encoding, grown_day))
    sizes = [(a.cardinality, b.cardinality) for a, b in zip(old, new, strict=True)]
    assert any(now > then for then, now in sizes)
    data = {"data_dir": str(grown_day), "data": data_checksum(grown_day)}
    config = dataclasses.replace(continued, **data)
    undisturbed = train(tmp_path / "undisturbed", config)
    steps = steps_per_epoch(grown_day, "train", 256)
    assert variable(undisturbed, "model/teacher/step") == (
        variable(first_day, "model/teacher/step") + steps
    )
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 15)
        train(tmp_path / "killed", config, checkpoint_steps=10)
    resumed = train(tmp_path / "killed", config, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))
    fresh = train(tmp_path / "fresh", dataclasses.replace(config, init_from=None))
    assert np.abs(scores_of(undisturbed) - scores_of(fresh)).max() > 0.01
    with pytest.raises(ValueError, match="where vocabularies have grown, a run goes on by"):
        first_day.require_same_encoding(grown_day)


def test_other_tables_are_refused(continued, train, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(continued.data_dir, other)
    (other / "vocab" / "item_id.txt").write_text("1\n")
    config = dataclasses.replace(continued, data_dir=str(other))
    with pytest.raises(ValueError, match=r"encoded by other tables.*--encoding_from"):
        train(tmp_path / "run", config)
