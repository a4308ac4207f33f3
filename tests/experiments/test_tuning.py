"""The search: the same number of different trials for every arm, replayed exactly."""

from __future__ import annotations

import dataclasses
import inspect

import optuna
import pytest

from clsd_tf.denoising import OBJECTIVES
from experiments.arms import ARMS, LEARNING_RATES
from experiments.runs import TrainConfig
from experiments.studies import StudyStore
from experiments.tuning import Trial, best, first_options, search, search_space
from experiments.variants import parse_variant, with_options
from tests.experiments.helpers import Killed

SPACE = {"rate": (0.1, 0.2, 0.3), "kind": ("a", "b"), "share": (0.0, 0.5, 1.0)}
FIRST = {"rate": 0.1, "kind": "a", "share": 0.5}


def value_of(options) -> float:
    return options["rate"] + (options["kind"] == "b") - options["share"]


CONFIGS = [TrainConfig("prepared", "abc", seed=seed) for seed in range(2)]


@pytest.fixture
def stored(tmp_path):
    """A study in a database, as another process would open it."""
    return lambda **fields: StudyStore(tmp_path).open(
        **{"label": "clsd", "configs": CONFIGS, "space": SPACE, "num_trials": 8, **fields}
    )


def test_begins_with_the_arm_as_it_is_and_tries_nothing_twice(stored):
    trials = search(SPACE, FIRST, 8, value_of, stored())
    assert trials[0].options == FIRST
    assert len({tuple(sorted(trial.options.items())) for trial in trials}) == 8
    assert all(trial.value == value_of(trial.options) for trial in trials)


def test_a_killed_search_comes_to_the_trials_of_an_undisturbed_one(tmp_path):
    def study(name: str):
        return StudyStore(tmp_path / name).open("clsd", CONFIGS, SPACE, 8)

    undisturbed = search(SPACE, FIRST, 8, value_of, study("undisturbed"))
    evaluated = []

    def evaluate(options) -> float:
        if len(evaluated) == 5:
            raise Killed
        evaluated.append(dict(options))
        return value_of(options)

    with pytest.raises(Killed):
        search(SPACE, FIRST, 8, evaluate, study("killed"))
    again = []
    resumed = search(SPACE, FIRST, 8, lambda o: again.append(o) or value_of(o), study("killed"))
    assert resumed == undisturbed
    assert (len(evaluated), len(again)) == (5, 3)
    kept = optuna.load_study(
        study_name=study("killed").study_name,
        storage=f"sqlite:///{tmp_path / 'killed' / 'studies.db'}",
    )
    assert [Trial(t.params, t.value) for t in kept.trials] == undisturbed
    assert kept.best_value == best(undisturbed).value


@pytest.mark.parametrize(
    "other",
    [
        {"configs": [dataclasses.replace(c, epochs=2) for c in CONFIGS]},
        {"space": {**SPACE, "rate": (0.1, 0.2)}},
        {"num_trials": 7},
    ],
    ids=["configs", "space", "num_trials"],
)
def test_another_search_has_a_study_of_its_own(stored, other):
    search(SPACE, FIRST, 3, value_of, stored())
    assert stored().trials and not stored(**other).trials


def test_finds_the_best_of_a_small_space_and_stops(stored):
    trials = search(SPACE, FIRST, 18, value_of, stored())
    assert best(trials).options == {"rate": 0.3, "kind": "b", "share": 0.0}
    space = {"kind": ("a", "b")}
    assert len(search(space, {"kind": "b"}, 8, lambda options: 0.0, stored(space=space))) == 2


def test_the_earliest_of_equals_is_best(stored):
    trials = search(SPACE, FIRST, 4, lambda options: 1.0, stored())
    assert best(trials).options == FIRST


@pytest.mark.parametrize("name", list(ARMS))
def test_every_arm_is_in_its_own_space(name):
    arm, variant = ARMS[name], parse_variant(name)
    space, first = search_space(variant), first_options(variant)
    assert LEARNING_RATES.items() <= space.items()
    assert all(first[option] in values for option, values in space.items())
    config = TrainConfig("prepared", "abc", method=name, options=arm.with_options({}))
    begun = with_options(config, first)
    assert dataclasses.replace(begun, method_options={}) == config
    if begun.method_options:
        parameters = inspect.signature(OBJECTIVES[arm.objective]).parameters
        assert begun.method_options == {n: parameters[n].default for n in begun.method_options}


def test_what_a_variant_sets_is_not_searched():
    assert "learning_rate" not in search_space(parse_variant("plain:learning_rate=0.002"))
    assert "drop_rate" in search_space(parse_variant("t_ce:ramp_steps=10"))


def test_options_go_to_the_run_or_to_the_arm():
    config = TrainConfig("prepared", "abc", options={"alpha": 0.5, "student": "soft"})
    tuned = with_options(config, {"learning_rate": 0.003, "alpha": 1.0})
    assert tuned.learning_rate == 0.003
    assert tuned.options == {"alpha": 1.0, "student": "soft"}
