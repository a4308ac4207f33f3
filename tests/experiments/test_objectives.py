"""Peer methods and controls as runs, and the door that satisfaction columns do not pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import experiments.training as training
from clsd_tf import Encoder
from clsd_tf.group_offset import remove_group_offset
from data_pipeline import global_batches
from data_pipeline.reader import make_dataset
from experiments import objectives
from experiments.arms import ARMS
from experiments.corrections import as_served
from experiments.evaluation import score_split
from experiments.models import build_model, load_model
from experiments.runs import Run
from tests.experiments.helpers import Killed, kill_after, scores_of

RATES = [0.02, 0.05, 0.1, 0.2]
OPTIONS = {
    "t_ce": {"drop_rate": 0.3, "ramp_steps": 20},
    "pld_style": {"warmup_steps": 5},
    "group_offset": {"rates": RATES},
    "mixture_teacher": {"rates": RATES},
}


@pytest.fixture(scope="module")
def encoder(plain) -> Encoder:
    return Encoder.load(plain.encoding)


@pytest.fixture
def config_of(configure, plain):
    """The config of an arm, taught by the plain run where it has a teacher."""

    def config_of(method: str, **fields):
        if ARMS[method].needs_teacher:
            fields["teacher_dir"] = str(plain.directory)
        if ARMS[method].knows_rates:
            fields["confidence_options"] = {"rates": RATES}
        return configure(method, method_options=OPTIONS.get(method, {}), **fields)

    return config_of


@pytest.fixture
def rows_of_steps(monkeypatch) -> list[tuple[str, set[str]]]:
    """(phase, features) of all rows that are handed to `fit`."""
    seen = []
    fit, original = [], training.ClickConfidenceModel.fit
    monkeypatch.setattr(training, "_fit", _remembering(training._fit, fit))

    def spying(self, rows, **options):
        seen.append((fit[-1], set(rows.element_spec[0])))
        return original(self, rows, **options)

    monkeypatch.setattr(training.ClickConfidenceModel, "fit", spying)
    return seen


def _remembering(function, names: list[str]):
    def called(phase, *rest):
        names.append(phase.name)
        return function(phase, *rest)

    return called


@pytest.mark.parametrize("method", [name for name in ARMS if name != "plain"])
def test_an_arm_trains_is_judged_and_sees_no_satisfaction_but_its_own(
    method, config_of, train, encoder, plain, rows_of_steps, tmp_path
):
    config = config_of(method)
    run = train(tmp_path / "run", config)
    assert Run(run.directory).config() == config
    model = load_model(run, config)
    scored = score_split(model, encoder, config.data_dir, "valid")
    served = as_served(scored, model, config).scores
    assert np.all((served >= 0) & (served <= 1)) and np.ptp(served) > 0.05
    assert np.abs(served - scores_of(plain)).max() > 1e-3

    signals = {column.name for column in encoder.spec.with_role("satisfaction")}
    assert len(signals) > 1 and rows_of_steps
    for phase, features in rows_of_steps:
        reads = {"long_view"} if (method, phase) == ("oracle", "student") else set()
        assert features & signals == reads


def test_group_offset_is_the_plain_model_less_the_rates(config_of, train, encoder, plain, tmp_path):
    config = config_of("group_offset")
    run = train(tmp_path / "run", config)
    np.testing.assert_array_equal(scores_of(run), scores_of(plain))
    model = load_model(run, config)
    scored = score_split(model, encoder, config.data_dir, "valid")
    expected = remove_group_offset(scored.scores, scored.groups, RATES)
    np.testing.assert_allclose(as_served(scored, model, config).scores, expected, atol=1e-6)
    assert as_served(scored, model, plain.config()) is scored


@pytest.mark.slow
@pytest.mark.parametrize("method", ["t_ce", "pld_style", "shuffled", "decap_style", "oracle"])
def test_a_killed_run_resumes_to_the_same_end(method, config_of, train, tmp_path, monkeypatch):
    config = config_of(method)
    undisturbed = train(tmp_path / "undisturbed", config)
    with monkeypatch.context() as patched:
        kill_after(patched, 37)
        with pytest.raises(Killed):
            train(tmp_path / "killed", config, checkpoint_steps=10)
    resumed = train(tmp_path / "killed", config, checkpoint_steps=10)
    np.testing.assert_array_equal(scores_of(resumed), scores_of(undisturbed))


def test_evaluation_and_export_say_what_the_output_means(config_of, train, run, tmp_path):
    trained = train(tmp_path / "run", config_of("t_ce"))
    assert trained.output_meaning() == "rate of clicks that were not dropped"
    for command in ("evaluate", "export"):
        results = run(f"experiments.{command}", f"--model_dir={trained.directory}", cwd=tmp_path)
        metrics = json.loads(results.read_text())["metrics"]
        assert metrics["outputs"] == trained.output_meaning()
    metadata = json.loads((trained.export / "1" / "assets.extra" / "metadata.json").read_text())
    assert metadata["outputs"] == trained.output_meaning()


class TestTheDoor:
    def test_rows_with_a_satisfaction_column_are_refused_whatever_read_them(
        self, config_of, train, tmp_path, monkeypatch
    ):
        def leaking(*args, **options) -> tf.data.Dataset:
            return make_dataset(*args, **{**options, "extra_columns": ["long_view", "like"]})

        monkeypatch.setattr(global_batches, "make_dataset", leaking)
        for method, leaked in (("plain", "long_view, like"), ("oracle", "like")):
            with pytest.raises(ValueError, match=f"never train them.*training rows with {leaked}"):
                train(tmp_path / method, config_of(method))

    def test_an_arm_that_does_not_say_so_cannot_ask(self, configure, encoder):
        oracle = configure("oracle")
        model = build_model(oracle, encoder, objective=objectives.build_objective(oracle, encoder))
        assert objectives.own_columns(model, oracle) == ("long_view",)
        with pytest.raises(ValueError, match="plain must not learn from what.*reads long_view"):
            objectives.own_columns(model, configure("plain"))

    def test_the_oracle_reads_satisfaction_only(self, configure, encoder):
        config = configure("oracle", method_options={"column": "item_id"})
        with pytest.raises(ValueError, match="satisfaction column.*'item_id'.*long_view"):
            objectives.build_objective(config, encoder)


def test_options_out_of_range_are_answered_before_training(configure, encoder):
    config = configure("r_ce", method_options={"beta": -1.0})
    with pytest.raises(ValueError, match="`beta` must be >= 0"):
        objectives.build_objective(config, encoder)
