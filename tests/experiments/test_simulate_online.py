"""The closed loop: what users are shown decides what is learned, and harm is told as such."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from experiments.online_arm import DayOfArm, OnlineArm, _rounds
from experiments.online_log import HISTORY, OnlineLog, Shown
from experiments.online_report import render, summarize
from experiments.online_world import OnlineOptions, OnlineWorld

OPTIONS = OnlineOptions(users=80, items=40, categories=5, candidates=10, shown=3, requests=3.0)


@pytest.fixture(scope="module")
def world():
    return OnlineWorld(OPTIONS, seed=1)


def best(world, requests) -> np.ndarray:
    """What users would like most of the candidates."""
    order = np.argsort(-world.interest(requests, requests.candidates), axis=1)[:, : OPTIONS.shown]
    return np.take_along_axis(requests.candidates, order, axis=1)


class TestWorld:
    def test_is_that_of_its_seed(self, world):
        again, other = OnlineWorld(OPTIONS, 1).requests(2), OnlineWorld(OPTIONS, 2).requests(2)
        for field in dataclasses.fields(again):
            same = getattr(world.requests(2), field.name)
            np.testing.assert_array_equal(getattr(again, field.name), same)
        assert len(other) != len(again) or not np.array_equal(other.user, again.user)

    def test_candidates_of_a_request_differ(self, world):
        candidates = world.requests(0).candidates
        assert candidates.shape[1] == 10
        assert all(len(set(row)) == 10 for row in candidates)

    def test_arms_get_users_of_all_groups_alike(self, world):
        arms = world.arm_of(2)
        counts = [np.bincount(world.group[arms == arm], minlength=4) for arm in (0, 1)]
        np.testing.assert_array_equal(counts, [[10] * 4] * 2)

    def test_groups_click_without_interest_at_their_rates(self, world):
        requests = world.requests(0).select(np.repeat(np.arange(50), 200))
        clicks = world.respond(requests, requests.candidates, "test")
        group = np.repeat(world.group[requests.user], 10)
        interested = clicks.clicked & ~clicks.is_noise
        for number, rate in enumerate(OPTIONS.noise_rates):
            chosen = (group == number) & ~interested
            if chosen.sum() > 5000:
                assert clicks.is_noise[chosen].mean() == pytest.approx(rate, abs=0.02)

    def test_clickbait_is_clicked_whoever_sees_it(self):
        world = OnlineWorld(dataclasses.replace(OPTIONS, clickbait=0.5, noise_rates=(0.0,)), 3)
        requests = world.requests(0)
        clicks = world.respond(requests, requests.candidates, "test")
        bait = world.is_clickbait[requests.candidates.ravel()]
        assert clicks.is_noise[bait].mean() > 0.2
        assert not clicks.is_noise[~bait].any()

    def test_the_best_choice_is_better_than_any(self, world):
        requests = world.requests(1)
        chosen = world.interest(requests, best(world, requests)).mean()
        assert chosen > world.interest(requests, requests.candidates[:, :3]).mean() + 0.1


class TestLog:
    def test_clicks_are_in_later_requests_of_the_user(self, world, tmp_path):
        log = OnlineLog(world, tmp_path)
        requests = next(_rounds(world.requests(0)))
        assert not log.inputs(requests)["click_history_mask"].any()
        items = best(world, requests)
        shown = Shown(requests, items, world.respond(requests, items, "test"))
        log.add(shown)
        inputs = log.inputs(requests)
        clicked = shown.clicks.clicked.reshape(items.shape)
        np.testing.assert_array_equal(
            inputs["click_history_mask"].sum(axis=1), clicked.sum(axis=1).clip(max=HISTORY)
        )
        np.testing.assert_array_equal(
            inputs["click_history"][inputs["click_history_mask"]], items[clicked]
        )

    def test_rounds_are_all_requests_in_the_order_of_each_user(self, world):
        requests = world.requests(0)
        rounds = list(_rounds(requests))
        assert sum(map(len, rounds)) == len(requests)
        for earlier, later in itertools.pairwise(rounds):
            assert len(set(later.user)) == len(later)
            time = dict(zip(earlier.user, earlier.milliseconds, strict=True))
            assert all(
                time[user] <= at for user, at in zip(later.user, later.milliseconds, strict=True)
            )

    def test_an_arm_that_learns_nothing_is_still_served(self, world, tmp_path):
        arm = OnlineArm("random", world, None, tmp_path)
        day = arm.serve(0, world.requests(0))
        assert arm.learn(0) == {}
        assert day.impressions == 3 * len(world.requests(0))
        assert 0 < day.interested_rate < day.click_rate < 1
        assert day.regret > 0.1


def days(rates: list[float], confidence: float = math.nan, found: dict | None = None) -> list:
    """Days of an arm with the given rates of satisfaction."""
    blank = DayOfArm(0, 100, 0.4, 0.0, 0.3, 0.3, 0.1, train_seconds=2.0)
    return [
        dataclasses.asdict(
            dataclasses.replace(
                blank,
                day=number,
                satisfied_rate=rate,
                regret=0.5 - rate,
                confidence=confidence - 0.01 * number,
                noise_rates=found or {},
            )
        )
        for number, rate in enumerate(rates)
    ]


class TestReport:
    def summary(self, shift: float) -> dict:
        rates = {"0": 0.1, "1": 0.3}
        seeds = [
            {
                "plain": days([0.2, 0.25 + bias, 0.3 + bias]),
                "clsd": days([0.2, 0.25 + bias + shift, 0.3 + bias + 1.2 * shift], 0.8, rates),
            }
            for bias, shift in ((0.0, shift), (0.05, 1.1 * shift), (-0.05, 0.9 * shift))
        ]
        return summarize(seeds, (0.1, 0.2))

    @pytest.mark.parametrize(("shift", "verdict"), [(0.02, "helps"), (-0.02, "harms")])
    def test_tells_help_from_harm(self, shift, verdict):
        found = self.summary(shift)["differences"]["clsd"]
        assert found["satisfied_rate"]["mean"] == pytest.approx(1.1 * shift)
        assert found["satisfied_rate"]["verdict"] == verdict
        assert found["regret"]["verdict"] == verdict  # of which less is better
        assert found["satisfied_rate"]["before"] == 0.0
        assert verdict in render(self.summary(shift), "title")

    def test_no_difference_is_undecided(self):
        found = self.summary(0.0)["differences"]["clsd"]
        assert found["click_rate"]["verdict"] == "undecided"

    def test_means_drift_and_cost(self):
        arms = self.summary(0.02)["arms"]
        assert arms["plain"]["satisfied_rate"] == pytest.approx(0.275)
        assert math.isnan(arms["plain"]["confidence_last"])
        assert arms["clsd"]["confidence_first"] == pytest.approx(0.8)
        assert arms["clsd"]["confidence_last"] == pytest.approx(0.78)
        assert arms["clsd"]["noise_rate_error"] == pytest.approx(0.05)
        assert arms["clsd"]["train_seconds"] == 2.0


def test_the_command_closes_the_loop(run, tmp_path):
    flags = ["--arms=plain,random", "--days=1", "--seeds=1", "--users=120", "--items=40"]
    results = run("experiments.simulate_online", "--output_dir=online", *flags, cwd=tmp_path)
    metrics = json.loads(results.read_text())["metrics"]
    assert metrics["arms"]["plain"]["train_seconds"] > 0
    assert metrics["differences"]["random"]["interest"]["before"] != 0
    assert (tmp_path / "online" / "online.png").stat().st_size > 10_000
    assert not (tmp_path / "online" / "work").exists()
    (day_0, day_1) = json.loads((tmp_path / "online" / "seeds" / "0.json").read_text())["plain"]
    assert day_1["day"] == 1 + day_0["day"]
