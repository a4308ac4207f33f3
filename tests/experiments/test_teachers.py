"""Where a teacher comes from: stored scores, models of folds, the student before."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import Encoder, export_model
from clsd_tf.batches import logits_of
from clsd_tf.features import TEACHER_LOGIT
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset, steps_per_epoch
from data_pipeline.scores import ScoreError
from experiments import scoring
from experiments.evaluation import score_split
from experiments.models import load_model
from experiments.runs import TEACHER_SEED, Run, TrainConfig
from experiments.training import train_run
from tests.experiments.helpers import Killed, kill_after, scores_of

AFFINE = {"confidence": "affine"}


def test_stored_scores_teach_like_the_frozen_teacher(clsd, configure, train, tmp_path):
    run = train(tmp_path / "run", configure("clsd", options=AFFINE, teacher="scores"))
    np.testing.assert_array_equal(scores_of(run, "teacher"), scores_of(clsd, "teacher"))
    np.testing.assert_allclose(scores_of(run), scores_of(clsd), atol=1e-5)
    tables = [json.loads((r.student / "phase.json").read_text())["confidence"] for r in (run, clsd)]
    for stored, frozen in zip(*tables, strict=True):
        assert stored == pytest.approx(frozen, abs=1e-4)


@pytest.mark.slow
def test_the_command_scores_for_other_runs(run, plain, prepared, configure, train, tmp_path):
    flags = [f"--model_dir={plain.directory}", f"--output_dir={tmp_path / 'scores'}"]
    results = json.loads(run("experiments.score", *flags, cwd=tmp_path).read_text())
    rows = Manifest.load(prepared).rows
    assert results["metrics"]["rows"] == rows["train"] + rows["valid"]
    scores = str(tmp_path / "scores")
    options = {"confidence": "global"}
    config = configure("clsd", options=options, teacher="scores", scores_dir=scores)
    taught = train(tmp_path / "run", config)
    assert not taught.teacher.exists()
    frozen = configure("clsd", options=options, teacher_dir=str(plain.directory))
    np.testing.assert_allclose(
        scores_of(taught), scores_of(train(tmp_path / "frozen", frozen)), atol=1e-5
    )


def test_scores_of_another_data_set_are_refused(configure, train, tmp_path):
    (tmp_path / "scores").mkdir()
    config = configure("clsd", teacher="scores", scores_dir=str(tmp_path / "scores"))
    with pytest.raises(ScoreError, match="holds no scores"):
        train(tmp_path / "run", config)


@pytest.mark.slow
def test_a_row_is_scored_by_the_model_that_left_it_out(configure, prepared, train, tmp_path):
    config = configure("clsd", options=AFFINE, teacher="oof", num_folds=2)
    run = train(tmp_path / "run", config)
    encoder = Encoder.load(run.encoding)
    scores = run.directory / "scores" / "student"
    models = [load_model(run, config, part=f"fold_{fold}") for fold in range(2)]
    seen_by = []
    for fold in range(2):
        options = {"without_fold": (fold, 2), "shuffle": False, "scores": scores}
        features, _, _ = next(iter(make_dataset(prepared, "train", 500, **options)))
        other = logits_of(models[1 - fold].backbone, features)
        np.testing.assert_allclose(features[TEACHER_LOGIT], other, atol=1e-5)
        seen_by.append(score_split(models[fold], encoder, prepared, "valid").scores)
    assert np.abs(seen_by[0] - seen_by[1]).max() > 1e-3  # two models, of other rows
    table = json.loads((run.student / "phase.json").read_text())["confidence"]
    assert all(0.1 < group["scale"] < 3 for group in table)


@pytest.mark.slow
def test_each_generation_teaches_the_next(configure, train, tmp_path):
    both = train(tmp_path / "both", configure("clsd", generations=2))
    taught_by: dict[str, str] = {}
    for method, seed in (("plain", TEACHER_SEED), ("clsd", 2 * TEACHER_SEED), ("clsd", 0)):
        config = configure(method, seed=seed, **taught_by)
        one = train(tmp_path / f"{method}-{seed}", config)
        taught_by = {"teacher_dir": str(one.directory)}
        part = {TEACHER_SEED: "teacher", 2 * TEACHER_SEED: "generation_1", 0: "student"}[seed]
        np.testing.assert_array_equal(scores_of(both, part), scores_of(one))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "last_steps"),
    [({"teacher": "oof", "num_folds": 2}, 30), ({"teacher": "scores", "generations": 2}, 120)],
    ids=["oof", "generations"],
)
def test_killed_in_any_phase_it_resumes_to_the_same_end(
    configure, train, tmp_path, monkeypatch, fields, last_steps
):
    config = configure("clsd", options=AFFINE, **fields)
    undisturbed = train(tmp_path / "undisturbed", config)
    killed = tmp_path / "killed"
    patches = (
        lambda patched: kill_after(patched, 15),  # the first teacher
        lambda patched: patched.setattr(scoring, "_scorer", killed_scorer),
        lambda patched: kill_after(patched, last_steps),  # the last student
    )
    for patch in patches:
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patch(patched)
            train(killed, config, checkpoint_steps=10)
    resumed = train(killed, config, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))


def killed_scorer(model):
    def score(features):
        raise Killed

    return score


@pytest.mark.slow
def test_results_name_each_phase(configure, tmp_path):
    run, config = Run(tmp_path / "run"), configure("clsd", teacher="scores", generations=2)
    run.begin(config, overwrite=False)
    results = train_run(run, config, checkpoint_steps=1000)
    assert [*results] == ["teacher", "generation_1", "student"]
    assert {p.name for p in (run.directory / "scores").iterdir()} == {"generation_1", "student"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"scores_dir": "s"},
            "--scores_dir says what the teacher thinks. Received: --teacher=froz",
        ),
        ({"teacher": "oof", "teacher_dir": "r"}, "--teacher=oof makes its own teacher"),
        ({"teacher": "oof", "generations": 2}, "Generations need a teacher that a student can"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(data_dir="prepared", data="", **fields)


@pytest.mark.slow
@pytest.mark.parametrize("confidence", ["affine", "mixture"])
def test_an_ema_teacher_takes_one_training_and_resumes(
    configure, train, tmp_path, monkeypatch, confidence
):
    config = configure("clsd", options={"confidence": confidence}, teacher="ema", epochs=2)
    undisturbed = train(tmp_path / "undisturbed", config)
    assert not undisturbed.teacher.exists()
    for steps in (30, 90):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            kill_after(patched, steps)
            train(tmp_path / "killed", config, checkpoint_steps=10)
    resumed = train(tmp_path / "killed", config, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))
    table = json.loads((resumed.student / "phase.json").read_text())["confidence"]
    if confidence == "mixture":  # planted were .05, .10, .20, .35
        rates = [row["noise_rate"] for row in table[1:]]
        assert rates[0] < rates[2] < rates[3] < 0.6


def test_an_ema_teacher_is_not_served(configure, train, tmp_path):
    run = train(tmp_path / "run", configure("clsd", options=AFFINE, teacher="ema"))
    model = load_model(run, run.config())
    assert model.teacher is None
    path = export_model(model, Encoder.load(run.encoding), tmp_path / "export")
    served = tf.saved_model.load(str(path))
    assert len(served.weights) == len(model.backbone.weights)


class TestTeacherFraction:
    def test_the_teacher_takes_its_share_of_the_steps_and_the_student_all(
        self, tmp_path, configure, train, prepared
    ):
        config = configure("clsd", options={"confidence": "affine"}, teacher_fraction=0.25)
        run = train(tmp_path / "quarter", config)
        whole = steps_per_epoch(prepared, "train", config.batch_size)
        steps = {
            part: int(
                tf.train.latest_checkpoint(run.directory / part / "checkpoints").rpartition("-")[2]
            )
            for part in ("teacher", "student")
        }
        assert steps == {"teacher": round(0.25 * whole), "student": whole}

    @pytest.mark.parametrize("fraction", [0.0, 1.5])
    def test_it_is_a_share(self, configure, fraction):
        with pytest.raises(ValueError, match="more than 0, and at most 1"):
            configure("clsd", teacher_fraction=fraction)

    def test_it_is_of_no_use_where_no_teacher_is_trained(self, configure):
        with pytest.raises(ValueError, match="trains itself"):
            configure("clsd", options={"confidence": "affine"}, teacher="ema", teacher_fraction=0.5)
