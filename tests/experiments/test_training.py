"""Runs on a simulated log: phases, seeds, resumes, and what is learned of planted noise."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from clsd_tf import Encoder, metrics
from clsd_tf.features import GROUP
from experiments.evaluation import score_split
from experiments.models import load_model
from experiments.runs import TEACHER_SEED, Run
from tests.experiments.helpers import Killed, kill_after, scores_of
from tests.marks import slow


def test_learns_to_rank_clicks(plain, prepared):
    encoder = Encoder.load(plain.encoding)
    scored = score_split(load_model(plain, plain.config()), encoder, prepared, "test")
    assert metrics.auc(scored.labels, scored.scores) > 0.57


@pytest.fixture(scope="module")
def other_plain(configure, train, tmp_path_factory) -> Run:
    """A plain run with the seed of a teacher."""
    config = configure("plain", seed=TEACHER_SEED)
    return train(tmp_path_factory.mktemp("runs") / "other_plain", config)


def test_a_teacher_is_the_plain_model_of_another_seed(other_plain, clsd):
    np.testing.assert_array_equal(scores_of(clsd, "teacher"), scores_of(other_plain))


def test_a_finished_run_can_be_the_teacher(other_plain, clsd, configure, train, tmp_path):
    teacher_dir = str(other_plain.directory)
    config = configure("clsd", options={"confidence": "affine"}, teacher_dir=teacher_dir)
    run = train(tmp_path / "run", config)
    np.testing.assert_array_equal(scores_of(run), scores_of(clsd))


def test_a_teacher_of_another_backbone_is_refused(plain, configure, train, tmp_path):
    config = configure("clsd", teacher_dir=str(plain.directory), backbone_options={"units": [8]})
    with pytest.raises(ValueError, match="teacher in .* is of another backbone_options"):
        train(tmp_path / "run", config)


def test_seeds_decide(plain, configure, train, tmp_path):
    same = train(tmp_path / "same", configure("plain"))
    other = train(tmp_path / "other", configure("plain", seed=1))
    np.testing.assert_array_equal(scores_of(same), scores_of(plain))
    assert np.abs(scores_of(other) - scores_of(plain)).max() > 0.01


@pytest.mark.parametrize("epochs", [1, slow(2)])
def test_killed_in_any_phase_it_resumes_to_the_same_end(
    configure, train, tmp_path, monkeypatch, epochs
):
    config = configure("clsd", options={"confidence": "affine"}, epochs=epochs, calibrate=True)
    undisturbed = train(tmp_path / "undisturbed", config)
    killed = tmp_path / "killed"
    for steps in (37, 60 * epochs, 20):  # in the teacher, around the student's start, again soon
        with monkeypatch.context() as patched:
            kill_after(patched, steps)
            with pytest.raises(Killed):
                train(killed, config, checkpoint_steps=10)
    resumed = train(killed, config, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))
    phases = [json.loads((r.student / "phase.json").read_text()) for r in (resumed, undisturbed)]
    assert [epoch["val_loss"] for epoch in phases[0]["epochs"]] == [
        epoch["val_loss"] for epoch in phases[1]["epochs"]
    ]
    assert phases[0]["confidence"] == phases[1]["confidence"]
    assert "calibrated on held-out" in phases[0]["outputs"]


def test_confidence_tells_noise_from_interest(clsd, prepared, log):
    """Over the clicks of training rows, against the truth that no step has read."""
    config = clsd.config()
    encoder = Encoder.load(clsd.encoding)
    teacher = load_model(clsd, config, part="teacher")
    scored = score_split(teacher, encoder, prepared, "valid")
    truth = truth_of(prepared, log, "valid")
    interest = truth["interest_probability"].to_numpy()
    is_noise = truth["is_noise"].to_numpy()
    clicked = scored.labels == 1
    assert 0.05 < is_noise[clicked].mean() < 0.6
    assert metrics.auc(~is_noise[clicked], scored.scores[clicked]) > 0.55
    assert np.corrcoef(scored.scores, interest)[0, 1] > 0.3


def truth_of(prepared: pathlib.Path, log: pathlib.Path, split: str) -> pa.Table:
    """The truth about the rows of a split, in their order."""
    keys = pa.concat_tables(
        pq.read_table(path) for path in sorted((prepared / "keys").glob(f"{split}-*.parquet"))
    )
    names = ["user_id", "item_id", "time_ms"]
    truth = pq.read_table(log / "truth" / "truth.parquet")
    truth = truth.rename_columns({"user": "user_id", "item": "item_id", "timestamp": "time_ms"})
    by_key = truth.group_by(names, use_threads=False).aggregate(
        [("interest_probability", "first"), ("is_noise", "first")]
    )
    joined = keys.join(by_key, names, join_type="left outer").sort_by("_row")
    order = pa.array(np.argsort(np.argsort(keys["_row"].to_numpy())))
    joined = joined.take(order)
    return joined.rename_columns([name.removesuffix("_first") for name in joined.column_names])


def test_no_satisfaction_reaches_a_train_step(configure, train, tmp_path, monkeypatch):
    seen: set[str] = set()
    import data_pipeline.global_batches as global_batches
    import experiments.phases as phases

    original = global_batches.make_dataset

    def spying(*args, **kwargs) -> tf.data.Dataset:
        dataset = original(*args, **kwargs)
        seen.update(dataset.element_spec[0])
        return dataset

    for module in (global_batches, phases):
        monkeypatch.setattr(module, "make_dataset", spying)
    run = train(tmp_path / "run", configure())
    spec = Encoder.load(run.encoding).spec
    assert GROUP in seen
    assert not seen & {column.name for column in spec.with_role("satisfaction")}


def test_leaves_logs_for_tensorboard(clsd):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for phase in ("teacher", "student"):
        events = EventAccumulator(str(clsd.logs / phase), size_guidance={"tensors": 0})
        events.Reload()
        tags = set(events.Tags()["tensors"])
        assert {"train/loss", "valid/loss", "valid/auc"} <= tags
        assert ("train/confidence" in tags) == (phase == "student")


@pytest.mark.parametrize("missing", ["valid", "train"])
def test_a_data_set_without_rows_says_which_are_needed(
    configure, train, tmp_path, monkeypatch, missing
):
    import experiments.training as training

    manifest = training.Manifest.load(configure().data_dir)
    empty = dataclasses.replace(manifest, rows={**manifest.rows, missing: 0})
    monkeypatch.setattr(training.Manifest, "load", lambda directory: empty)
    needed = (
        "Received: 0 training rows" if missing == "train" else "Calibration is fitted on validation"
    )
    with pytest.raises(ValueError, match=needed):
        train(tmp_path / "run", configure("plain", calibrate=True))
