"""What --explain says, and that it writes nothing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from experiments import explain as module
from experiments.arms import get_arm
from experiments.explain import explain
from experiments.runs import Run, TrainConfig
from experiments.training_plan import UnitCosts, plan_phases


def config_of(method: str = "clsd", **fields: object) -> TrainConfig:
    options = get_arm(method).with_options({})
    return TrainConfig(data_dir="d", data="x", method=method, options=options, **fields)


def plan(config: TrainConfig):
    """Of 1000 rows and 100 validation rows: 10 steps an epoch, 7 without a fold."""
    return plan_phases(config, 1000, 100, lambda fold: 10 if fold is None else 7)


def summary(config: TrainConfig) -> list[tuple[str, int, int, bool]]:
    return [(p.name, p.steps, p.rows, p.is_taught) for p in plan(config)]


def test_phases_are_those_of_training():
    assert summary(config_of("plain", epochs=2)) == [("student", 20, 200, False)]
    assert summary(config_of(teacher_fraction=0.5)) == [
        ("teacher", 5, 100, False),
        ("student", 10, 100, True),
    ]
    assert summary(config_of(teacher="ema")) == [("student", 10, 100, True)]
    assert summary(config_of(teacher="oof", num_folds=2)) == [
        ("fold_0", 7, 100, False),
        ("fold_1", 7, 100, False),
        ("scores of student", 0, 1000, False),
        ("student", 10, 100, True),
    ]
    assert summary(config_of(teacher="scores", generations=2)) == [
        ("teacher", 10, 100, False),
        ("scores of generation_1", 0, 1100, False),
        ("generation_1", 10, 100, True),
        ("scores of student", 0, 1100, False),
        ("student", 10, 100, True),
    ]
    assert summary(config_of(teacher="scores", scores_dir="s")) == [("student", 10, 100, True)]
    (copied, _) = plan(config_of(teacher_dir="runs/plain"))
    assert (copied.steps, copied.what) == (0, "copied from runs/plain")


def test_time_is_steps_by_what_one_costs():
    costs = UnitCosts(plain_step=0.1, taught_step=0.2, row=0.01, begin=3.0)
    teacher, student = plan(config_of())
    assert teacher.seconds(costs) == pytest.approx(3.0 + 10 * 0.1 + 100 * 0.01)
    assert student.seconds(costs, done=4) == pytest.approx(3.0 + 6 * 0.2 + 100 * 0.01)


def test_it_says_what_would_be_done_and_writes_nothing(configure, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PROBE_STEPS", 20)
    run = Run(tmp_path / "run")
    before = sorted(prepared.rglob("*"))
    config = configure("clsd", teacher="scores")
    text = explain(run, config)
    assert list(tmp_path.iterdir()) == []
    assert sorted(prepared.rglob("*")) == before
    assert re.search(r"^Run .*: new$", text, re.MULTILINE)
    assert re.search(r"^ +\d+ batches of 256 in an epoch, 1 epoch; \d+ user groups$", text, re.M)
    assert re.search(r"table +item_id +[\d,]+ x 16 +[\d,]+$", text, re.MULTILINE)
    assert re.search(r"scores of student  \d+ s: [\d,]+ rows", text)
    assert "by a probe of" in text
    total = int(re.search(r"mlp: ([\d,]+) parameters", text)[1].replace(",", ""))
    parts = re.findall(r"^ +(?:table|layer) .* ([\d,]+)$", text, re.MULTILINE)
    assert sum(int(part.replace(",", "")) for part in parts) == total


def test_it_says_that_a_training_would_stop(clsd):
    assert "is finished" in module._state(clsd, clsd.config())
    other = dataclasses.replace(clsd.config(), seed=7)
    assert "holds a run of other seed; training would stop" in module._state(clsd, other)
    assert "no run" in module._state(Run(clsd.student), clsd.config())


def test_mistaken_options_are_told(configure, tmp_path):
    config = configure("clsd", confidence_options={"sharpnes": 3})
    with pytest.raises((ValueError, TypeError), match="sharpnes"):
        explain(Run(tmp_path / "run"), config)
