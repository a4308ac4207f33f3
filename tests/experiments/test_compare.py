"""Comparisons on the simulated log: from the command to the table, killed, resumed, replayed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from clsd_tf import Encoder
from data_pipeline.reader import make_dataset
from experiments import fitting, monitoring
from experiments.comparison import Comparison, satisfaction_to_judge_by
from experiments.evaluation import score_split
from experiments.fits import FitCache
from experiments.models import load_model
from experiments.plan import Settings
from experiments.replaced_process import ReplacedProcess
from experiments.runs import TEACHER_SEED
from experiments.studies import StudyStore

pytestmark = pytest.mark.slow  # whole comparisons: dozens of small models

ARGUMENTS = (
    "--arms=plain,clsd",
    "--backbones=mlp",
    "--num_seeds=2",
    "--num_trials=0",
    "--batch_size=256",
    "--bootstrap_draws=100",
)


@pytest.fixture(scope="module")
def compared(run, prepared) -> pathlib.Path:
    """A comparison with planted noise that reads the test split."""
    arguments = (*ARGUMENTS, "--noise_rates=.3", "--final", "--output_dir=comparison")
    return run(
        "experiments.compare", f"--data_dir={prepared}", *arguments, cwd=prepared.parent
    ).parent


def read(directory: pathlib.Path) -> dict:
    return json.loads((directory / "results.json").read_text())["metrics"]


def test_a_row_for_each_fit_and_a_summary_of_each_arm(compared):
    metrics = read(compared)
    places = {(r["world"], r["split"], r["arm"], r["seed"]) for r in metrics["rows"]}
    assert len(places) == len(metrics["rows"]) == 2 * 2 * 2 * 2
    fits = {path.name for path in (compared / "fits").iterdir() if path.is_dir()}
    teachers = fits - {row["fit"] for row in metrics["rows"]}
    assert len(fits) == 2 * 2 * 2 + len(teachers) == 12  # a teacher for each world and seed
    assert all(0.5 < row["click"]["auc"] < 0.8 for row in metrics["rows"])
    assert len(metrics["summary"]) == 2 * 2 * 2
    for summary in metrics["summary"]:
        noisy = summary["world"] == "noise_0.3"
        assert set(summary["recovered"]) == ({"auc", "gauc"} if noisy else set())
        contrast = summary["contrasts"].get("auc")
        assert (contrast is None) == (summary["arm"] == "plain")
        if contrast:
            assert contrast["over_seeds"]["low"] <= contrast["over_seeds"]["high"]
            assert contrast["over_users"]["low"] < contrast["over_users"]["high"]
            assert contrast["p_adjusted"] >= contrast["over_seeds"]["p"]


def test_clicks_are_judged_as_users_made_them(compared):
    rates = {(r["world"], r["split"]): r["click"]["click_rate"] for r in read(compared)["rows"]}
    for split in ("valid", "test"):
        assert rates["noise_0.3", split] == rates["as_is", split]


def test_confidence_is_judged_against_satisfaction_and_planted_noise(compared):
    for row in read(compared)["rows"]:
        assert ("confidence" in row) == (row["arm"] == "clsd")
        if row["arm"] == "clsd":
            confidence = row["confidence"]
            assert set(confidence["satisfaction"]) == {"long_view", "like"}
            assert confidence["satisfaction"]["long_view"]["auc"] > 0.5
            assert ("noise" in confidence) == (row["world"] == "noise_0.3")
            if row["world"] == "noise_0.3":
                assert confidence["noise"]["auc_within_groups"] > 0.55
                assert 0.3 < confidence["noise"]["good_share"] < 0.8


def test_leaves_a_table_figures_and_a_note_of_the_reading(compared):
    table = (compared / "table.md").read_text()
    assert "## noise_0.3, test" in table and "long_view AUC among clicks" in table
    figures = {path.name for path in (compared / "figures").iterdir()}
    assert {"differences-as_is-valid.png", "differences-noise_0.3-test.svg"} <= figures
    assert "reliability-as_is-mlp-valid.png" in figures
    (line,) = (compared / "test_readings.jsonl").read_text().splitlines()
    assert json.loads(line)["arms"] == ["plain", "clsd"]


def test_what_was_trained_is_not_trained_again(compared, prepared, run):
    finished = {p: p.stat().st_mtime_ns for p in compared.glob("fits/*/results.json")}
    before = read(compared)
    arguments = (*ARGUMENTS, "--noise_rates=.3", f"--output_dir={compared}")
    run("experiments.compare", f"--data_dir={prepared}", *arguments, cwd=prepared.parent)
    assert {p: p.stat().st_mtime_ns for p in compared.glob("fits/*/results.json")} == finished
    assert read(compared)["rows"] == [row for row in before["rows"] if row["split"] == "valid"]
    assert len((compared / "test_readings.jsonl").read_text().splitlines()) == 1


def test_a_dry_run_trains_nothing(prepared, tmp_path):
    command = [sys.executable, "-P", "-m", "experiments.compare", f"--data_dir={prepared}"]
    command += [*ARGUMENTS, "--dry_run", "--seconds_per_fit=90", f"--output_dir={tmp_path / 'o'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6 fits to train, 0.1 hours at 90.0 s each.\n"
    assert not (tmp_path / "o").exists()


def test_arms_are_judged_by_satisfaction_of_zeros_and_ones(prepared):
    assert satisfaction_to_judge_by(prepared, []) == ["long_view"]
    assert satisfaction_to_judge_by(prepared, ["like"]) == ["like"]
    for wrong in ("play_time_ms", "joy"):
        with pytest.raises(ValueError, match=f"Received: {wrong}. Expected some of: long_view, l"):
            satisfaction_to_judge_by(prepared, [wrong])


class Killed(Exception):
    pass


@pytest.fixture
def trained() -> list[str]:
    """Methods and seeds of fits, in the order in which they were trained."""
    return []


@pytest.fixture
def fitter(trained):
    """Makes fitters that note what they train."""

    def fitter(directory: pathlib.Path) -> fitting.Fitter:
        return fitting.Fitter(
            FitCache(directory), lambda config, _: trained.append((config.method, config.seed))
        )

    return fitter


SETTINGS = Settings(
    ("plain", "clsd"), ("mlp",), num_seeds=1, num_trials=2, tune_seeds=1, batch_size=256
)


def test_killed_at_any_time_it_goes_on(compared, fitter, trained, prepared, tmp_path, monkeypatch):
    config = SETTINGS.config("clsd", "mlp", 0, prepared)
    undisturbed = fitter(compared / "fits").scored(config, "valid")
    assert trained == []
    original = monitoring.StepSummaries.on_train_batch_end
    steps = []

    def on_train_batch_end(self, batch, logs=None):
        original(self, batch, logs)
        steps.append(batch)
        if len(steps) in (20, 150):  # in the teacher, and in the student
            raise Killed

    monkeypatch.setattr(monitoring.StepSummaries, "on_train_batch_end", on_train_batch_end)
    for _ in range(2):
        with pytest.raises(Killed):
            fitter(tmp_path).scored(config, "valid")
    assert trained == [("plain", TEACHER_SEED)]
    resumed = fitter(tmp_path).scored(config, "valid")
    assert trained == [("plain", TEACHER_SEED), ("clsd", 0)]
    np.testing.assert_array_equal(resumed.scores, undisturbed.scores)


def test_in_processes_of_their_own_fits_are_the_same(compared, fitter, prepared, tmp_path):
    config = SETTINGS.config("clsd", "mlp", 0, prepared)
    here = fitter(compared / "fits")
    report = []
    apart = fitting.Fitter(
        FitCache(tmp_path),
        lambda config, _: report.append(config.method),
        work=ReplacedProcess(tmp_path / "log", calls=1),
    )
    np.testing.assert_array_equal(
        apart.scored(config, "valid").scores, here.scored(config, "valid").scores
    )
    assert report == ["plain", "clsd"]
    told, expected = apart.confidences(config), here.confidences(config)
    np.testing.assert_array_equal(told.confidence, expected.confidence)
    assert told.table == expected.table


def test_a_teacher_of_a_part_of_the_batches_is_of_the_run(fitter, trained, prepared, tmp_path):
    config = SETTINGS.config("clsd", "mlp", 0, prepared)
    part = fitter(tmp_path)
    part.confidences(dataclasses.replace(config, teacher_fraction=0.5))
    assert trained == [("clsd", 0)]


def test_what_is_cached_is_what_the_model_says(compared, fitter, trained, prepared):
    config = SETTINGS.config("plain", "mlp", 0, prepared)
    cached = fitter(compared / "fits").scored(config, "valid")
    run = FitCache(compared / "fits").run(config)
    fresh = score_split(load_model(run, config), Encoder.load(prepared), prepared, "valid")
    for name in ("scores", "labels", "users", "groups", "rows"):
        np.testing.assert_array_equal(getattr(cached, name), getattr(fresh, name))
    assert cached.satisfaction.keys() == fresh.satisfaction.keys()
    assert trained == []


def test_every_training_click_has_a_confidence(compared, fitter, prepared):
    config = SETTINGS.config("clsd", "mlp", 0, prepared)
    told = fitter(compared / "fits").confidences(config)
    batches = make_dataset(prepared, "train", 4096, shuffle=False, extra_columns=["_row"])
    rows = [batch["_row"].numpy()[label.numpy() == 1] for batch, label, _ in batches]
    np.testing.assert_array_equal(told.rows, np.concatenate(rows))
    assert 0.0 < told.confidence.min() < told.confidence.max() <= 1.0
    assert [row["group"] for row in told.table] == ["pooled", *Encoder.load(prepared).group_names()]
    assert {"long_view", "like", "play_time_ms"} == set(told.satisfaction)


@pytest.mark.parametrize("teacher", ["scores", "oof", "ema"])
def test_confidence_is_told_whatever_the_teacher(compared, fitter, trained, prepared, teacher):
    config = SETTINGS.config(f"clsd:teacher={teacher}", "mlp", 0, prepared)
    one = fitter(compared / "fits")
    told, frozen = (
        one.confidences(c) for c in (config, SETTINGS.config("clsd", "mlp", 0, prepared))
    )
    assert trained == [("clsd", 0)]  # stored scores are those of the plain run that is there
    assert not [*FitCache(compared / "fits").run(config).directory.glob("*/checkpoints")]
    np.testing.assert_array_equal(told.rows, frozen.rows)
    if teacher == "scores":
        np.testing.assert_allclose(told.confidence, frozen.confidence, atol=1e-3)
    else:
        assert 0.5 < np.corrcoef(told.confidence, frozen.confidence)[0, 1] < 0.9999


@pytest.mark.parametrize("arm", ["group_offset", "mixture_teacher"])
def test_controls_correct_the_plain_model_by_group(compared, fitter, trained, prepared, arm):
    plain, control = (SETTINGS.config(name, "mlp", 0, prepared) for name in ("plain", arm))
    scored = fitter(compared / "fits").scored(plain, "valid")
    corrected = fitter(compared / "fits").scored(control, "valid")
    assert trained == []
    assert corrected.scores.mean() < scored.scores.mean()  # noise is taken out
    for group in range(4):
        rows = scored.groups == group
        order = np.argsort(scored.scores[rows], kind="stable")
        assert np.all(np.diff(corrected.scores[rows][order]) >= -1e-7)


def test_every_arm_is_tuned_by_as_many_trials(compared, fitter, trained, prepared, tmp_path):
    comparison = Comparison(SETTINGS, fitter(compared / "fits"), StudyStore(tmp_path))
    tuned = {arm: comparison.tune(arm, "mlp", prepared) for arm in SETTINGS.arms}
    for best, trials in tuned.values():
        assert len(trials) == 2
        assert best == max(trials, key=lambda trial: trial.value).options
    # The first trial of each is in the cache; the second of CLSD may need a teacher.
    count = len(trained)
    assert count in (2, 3)
    assert {arm: comparison.tune(arm, "mlp", prepared) for arm in SETTINGS.arms} == tuned
    assert len(trained) == count
