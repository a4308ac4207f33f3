"""What identifies a fit, and which are still to be trained."""

from __future__ import annotations

import dataclasses

import pytest

from data_pipeline.cli import write_json
from experiments.arms import get_arm
from experiments.fits import FitCache, fit_key, teacher_config
from experiments.plan import Settings, num_fits
from experiments.runs import TEACHER_SEED, TrainConfig


def config_of(method: str, **fields: object) -> TrainConfig:
    options = get_arm(method).with_options({})
    return TrainConfig("prepared", "abc", method=method, options=options, **fields)


def finish(cache: FitCache, config: TrainConfig, seconds: float) -> None:
    write_json(cache.run(config).results, {"metrics": {"seconds": seconds}})


def test_the_key_is_of_what_is_learned_not_of_where():
    config = config_of("clsd")
    moved = dataclasses.replace(config, data_dir="moved", teacher_dir="runs/plain")
    assert fit_key(moved) == fit_key(config)
    assert len(fit_key(config)) == 16


@pytest.mark.parametrize("change", [{"seed": 1}, {"data": "other"}, {"options": {}}])
def test_the_key_changes_with_what_is_learned(change):
    config = config_of("clsd")
    assert fit_key(dataclasses.replace(config, **change)) != fit_key(config)


def test_arms_of_equal_learning_rates_share_the_plain_model_as_teacher():
    plain = config_of("plain", learning_rate=3e-3, seed=TEACHER_SEED)
    for method in ("clsd", "distillation"):
        assert teacher_config(config_of(method, learning_rate=3e-3)) == plain
    assert teacher_config(plain) is None
    # Later generations are taught by students, the first by the plain model.
    assert teacher_config(config_of("clsd", learning_rate=3e-3, generations=2)) == plain
    assert teacher_config(config_of("clsd", teacher_fraction=0.5)) is None  # its run trains it


def test_missing_fits_are_counted_once_with_their_teachers(tmp_path):
    cache = FitCache(tmp_path)
    clsd, distillation = (config_of(m) for m in ("clsd", "distillation"))
    plain = config_of("plain", seed=TEACHER_SEED)
    assert cache.missing([clsd, distillation]) == [plain, clsd, distillation]
    finish(cache, plain, 10.0)
    finish(cache, clsd, 20.0)
    assert cache.missing([plain, clsd, distillation]) == [distillation]
    assert cache.seconds_per_fit() == 15.0


def test_without_fits_there_is_no_time(tmp_path):
    assert FitCache(tmp_path).seconds_per_fit() is None


def test_the_plan_counts_what_is_to_be_trained(tmp_path):
    settings = Settings(("plain", "clsd"), ("mlp", "dcn_v2"), num_seeds=3)
    assert num_fits(settings, [tmp_path / "a"], FitCache(tmp_path)) == (18, True)


def test_an_arm_that_corrects_the_plain_model_trains_none(tmp_path):
    cache, plain = FitCache(tmp_path), config_of("plain")
    control = config_of("group_offset")
    assert cache.missing([plain, control]) == [plain]
    assert cache.run(control).directory == cache.run(plain).directory
    assert cache.scored_path(control, "valid") != cache.scored_path(plain, "valid")


def test_the_plan_of_a_search_is_a_bound(tmp_path):
    settings = Settings(("plain", "clsd"), ("mlp",), num_seeds=5, num_trials=8, tune_seeds=2)
    # Each arm: 8 * 2 + 5. As many teachers, but at most 9 rates * 5 seeds; they have 9 trials.
    assert num_fits(settings, [tmp_path], FitCache(tmp_path)) == (21 + 21 + 21, False)
    more = dataclasses.replace(settings, num_trials=20)
    assert num_fits(more, [tmp_path], FitCache(tmp_path)) == (23 + 23 + 23, False)
