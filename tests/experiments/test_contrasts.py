"""What is said of arms, from fits that are made up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from experiments.comparison import Judged
from experiments.comparison_table import metric_name, render
from experiments.contrasts import (
    Contrast,
    Summary,
    add_recovered,
    adjust_primary,
    headline,
    pool,
    summarise,
)
from experiments.evaluation import ScoredSplit, judge
from experiments.runs import TrainConfig
from experiments.statistics import Interval

JUDGE_BY = ["long_view"]


def judged(arm: str, seed: int, skill: float, world: str = "as_is") -> Judged:
    """A fit whose scores follow the clicks of a day by `skill`."""
    day = np.random.default_rng(7)
    rows = 3000
    users = day.integers(100, size=rows)
    interest = day.normal(size=rows)
    labels = (day.random(rows) < 1 / (1 + np.exp(-interest))).astype(float)
    long_view = labels * (day.random(rows) < 0.5)
    luck = np.random.default_rng([seed, len(arm)]).normal(size=rows)
    scores = 1 / (1 + np.exp(-skill * interest - 0.1 * luck - day.normal(size=rows)))
    scored = ScoredSplit(
        scores, labels, users, np.zeros(rows, int), np.arange(rows), {"long_view": long_view}
    )
    config = TrainConfig("prepared", "abc", method=arm, seed=seed)
    return Judged(arm, "mlp", world, "valid", config, scored, judge(scored, ["all"]))


def block(world: str = "as_is", **skills: float) -> dict[str, list[Judged]]:
    return {
        arm: [judged(arm, seed, skill, world) for seed in (0, 1, 2)]
        for arm, skill in skills.items()
    }


@pytest.fixture(scope="module")
def summaries() -> dict[str, Summary]:
    fits = block(plain=1.0, clsd=1.5)
    fits["same"] = fits["plain"]
    return {s.arm: s for s in summarise(fits, JUDGE_BY, draws=100)}


def test_means_are_those_of_the_fits(summaries):
    fits = block(plain=1.0)["plain"]
    expected = np.mean([headline(fit.metrics, JUDGE_BY)["auc"] for fit in fits])
    assert summaries["plain"].means["auc"] == pytest.approx(expected)
    assert list(summaries["plain"].means) == [
        "auc",
        "gauc",
        "log_loss",
        "long_view_auc",
        "long_view_gauc",
        "long_view_auc_among_clicks",
    ]


def test_a_better_arm_holds_by_both_intervals(summaries):
    contrast = summaries["clsd"].contrasts["auc"]
    assert contrast.holds
    assert contrast.over_seeds.low > 0.02
    assert contrast.over_users.low > 0.02
    assert contrast.p == max(contrast.over_seeds.p, contrast.over_users.p)


def test_an_arm_equal_to_plain_differs_by_nothing(summaries):
    for name, contrast in summaries["same"].contrasts.items():
        assert not contrast.holds
        for interval in (contrast.over_seeds, contrast.over_users):
            assert interval.low <= 0.0 <= interval.high or name not in summaries["same"].pairs


def test_plain_is_not_compared_with_itself(summaries):
    assert summaries["plain"].contrasts == {}


def test_without_plain_there_are_means_only():
    (summary,) = summarise(block(clsd=1.0), JUDGE_BY, draws=10)
    assert summary.means["auc"] > 0.5
    assert summary.contrasts == {}


def test_origins_are_pooled_by_seed_and_user():
    days = [*summarise(block("origin_1", plain=1.0, clsd=1.4), JUDGE_BY, draws=10)]
    days += summarise(block("origin_2", plain=1.0, clsd=1.2), JUDGE_BY, draws=10)
    pooled = {s.arm: s for s in pool(days, draws=100)}
    means = [s.means["auc"] for s in days if s.arm == "clsd"]
    assert pooled["clsd"].world == "pooled"
    assert pooled["clsd"].means["auc"] == pytest.approx(np.mean(means))
    differences = [s.contrasts["auc"].over_users.mean for s in days if s.arm == "clsd"]
    assert pooled["clsd"].contrasts["auc"].over_users.mean == pytest.approx(np.mean(differences))
    assert pooled["clsd"].contrasts["auc"].over_seeds.low > 0.0


def test_the_share_won_back_is_of_what_plain_training_lost():
    def summary(world: str, arm: str, auc: float) -> Summary:
        return Summary(world, "test", "mlp", arm, {"auc": auc, "gauc": auc - 0.1}, {})

    rows = [
        summary("as_is", "plain", 0.74),
        summary("as_is", "clsd", 0.75),
        summary("noise_0.3", "plain", 0.70),
        summary("noise_0.3", "clsd", 0.71),
    ]
    add_recovered(rows)
    assert rows[3].recovered == pytest.approx({"auc": 0.25, "gauc": 0.25})
    assert rows[2].recovered == pytest.approx({"auc": 0.0, "gauc": 0.0})
    assert rows[0].recovered == rows[1].recovered == {}


def test_a_claim_needs_both_p_values():
    seeds, users = Interval(0.1, 0.0, 0.2, 0.03), Interval(0.1, 0.0, 0.2, 0.01)
    nowhere = Interval(0.1, math.nan, math.nan, math.nan)
    assert Contrast(seeds, users).p == 0.03
    for one_missing in (Contrast(nowhere, users), Contrast(seeds, nowhere)):
        assert math.isnan(one_missing.p) and not one_missing.holds


def test_declared_contrasts_are_adjusted_within_a_world():
    def summary(world: str, backbone: str, arm: str, p_seeds: float, p_users: float) -> Summary:
        seeds, users = (Interval(0.1, 0.0, 0.2, p) for p in (p_seeds, p_users))
        return Summary(world, "valid", backbone, arm, {}, {"auc": Contrast(seeds, users)})

    rows = [
        summary("as_is", "mlp", "clsd", 0.01, 0.02),
        summary("as_is", "din", "clsd", 0.03, 0.001),
        summary("as_is", "din", "distillation", 0.001, 0.001),
        summary("noise_0.3", "mlp", "clsd", 0.01, 0.02),
    ]
    adjust_primary(rows, "clsd")
    adjusted = [row.contrasts["auc"].p_adjusted for row in rows]
    assert adjusted == pytest.approx([0.04, 0.04, math.nan, 0.02], nan_ok=True)


def test_the_table_shows_both_intervals_and_where_they_hold():
    seeds, users = Interval(0.0011, 0.0005, 0.0017, 0.01), Interval(0.0012, 0.0002, 0.0022, 0.02)
    contrast = Contrast(seeds, users, p_adjusted=0.02)
    rows = [
        Summary("noise_0.3", "valid", "mlp", "plain", {"auc": 0.7334}, {}),
        Summary("noise_0.3", "valid", "mlp", "clsd", {"auc": 0.7345}, {"auc": contrast}),
    ]
    rows[1].recovered = {"auc": 0.25, "gauc": math.nan}
    lines = render(rows, "log").splitlines()
    assert lines[0] == "# log"
    assert lines.index("## noise_0.3, valid") < lines.index("### click AUC")
    assert lines[-2:] == [
        "| mlp | plain | 0.7334 |  |  |  |  |  |",
        "| mlp | clsd | 0.7345 | +11.0* | +5.0 to +17.0 | +2.0 to +22.0 | 25% | 0.020 |",
    ]
    doubtful = dataclasses.replace(contrast, over_users=Interval(0.0012, -0.0002, 0.0022, 0.2))
    rows[1].contrasts["auc"] = doubtful
    assert "| +11.0 | +5.0 to +17.0 | -2.0 to +22.0 |" in render(rows, "log")


def test_metrics_have_names():
    names = ["auc", "gauc", "log_loss", "long_view_auc", "long_view_auc_among_clicks"]
    assert [metric_name(name) for name in names] == [
        "click AUC",
        "click GAUC",
        "log loss",
        "long_view AUC",
        "long_view AUC among clicks",
    ]
