"""The search: the same number of different trials for every arm, replayed exactly."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from clsd_tf.denoising import OBJECTIVES
from experiments.arms import ARMS, LEARNING_RATES
from experiments.runs import TrainConfig
from experiments.tuning import best, first_options, search, search_space, with_options

SPACE = {"rate": (0.1, 0.2, 0.3), "kind": ("a", "b"), "share": (0.0, 0.5, 1.0)}
FIRST = {"rate": 0.1, "kind": "a", "share": 0.5}


def value_of(options) -> float:
    return options["rate"] + (options["kind"] == "b") - options["share"]


def test_begins_with_the_arm_as_it_is_and_tries_nothing_twice():
    trials = search(SPACE, FIRST, 8, value_of)
    assert trials[0].options == FIRST
    assert len({tuple(sorted(trial.options.items())) for trial in trials}) == 8
    assert all(trial.value == value_of(trial.options) for trial in trials)


def test_replays_the_same_trials():
    assert search(SPACE, FIRST, 8, value_of) == search(SPACE, FIRST, 8, value_of)


def test_finds_the_best_of_a_small_space_and_stops():
    trials = search(SPACE, FIRST, 18, value_of)
    assert best(trials).options == {"rate": 0.3, "kind": "b", "share": 0.0}
    assert len(search({"kind": ("a", "b")}, {"kind": "b"}, 8, lambda options: 0.0)) == 2


def test_the_earliest_of_equals_is_best():
    trials = search(SPACE, FIRST, 4, lambda options: 1.0)
    assert best(trials).options == FIRST


@pytest.mark.parametrize("name", list(ARMS))
def test_every_arm_is_in_its_own_space(name):
    arm = ARMS[name]
    space, first = search_space(arm), first_options(arm)
    assert LEARNING_RATES.items() <= space.items()
    assert all(first[option] in values for option, values in space.items())
    config = TrainConfig("prepared", "abc", method=name, options=arm.with_options({}))
    begun = with_options(config, first)
    assert dataclasses.replace(begun, method_options={}) == config
    if begun.method_options:
        parameters = inspect.signature(OBJECTIVES[arm.objective]).parameters
        assert begun.method_options == {n: parameters[n].default for n in begun.method_options}


def test_options_go_to_the_run_or_to_the_arm():
    config = TrainConfig("prepared", "abc", options={"alpha": 0.5, "student": "soft"})
    tuned = with_options(config, {"learning_rate": 0.003, "alpha": 1.0})
    assert tuned.learning_rate == 0.003
    assert tuned.options == {"alpha": 1.0, "student": "soft"}
