"""Activity before the training window."""

from __future__ import annotations

import collections

import pytest

from data_pipeline.activity import ActivityError, add_activity
from data_pipeline.splits import add_split
from tests.data_pipeline.impressions import (
    BY_DAY,
    make_engine,
    make_spec,
    random_rows,
    rows_of,
    store,
)

ACTIVITY = BY_DAY + '[activity]\ncount = "{}"\nboundaries = [2.0]\n'


def counted(rows, count):
    spec = make_spec(ACTIVITY.format(count))
    impressions = store(make_engine(), rows)
    return rows_of(add_activity(add_split(impressions, spec), spec))


@pytest.mark.parametrize("count", ["impressions", "clicks"])
def test_counts_are_those_before_the_training_window(count):
    rows = random_rows(300, seed=1)
    # User 9 is seen in training only.
    rows[-1]["user_id"] = 9
    expected = collections.Counter()
    for row in rows:
        if row["_day"] < "2022-05-01":
            expected[row["user_id"]] += 1 if count == "impressions" else row["click"]
    received = counted(rows, count)
    assert [row["activity"] for row in received] == [expected[row["user_id"]] for row in rows]
    assert received[-1]["activity"] == 0
    assert [row["click"] for row in received] == [row["click"] for row in rows]


def test_later_rows_change_nothing():
    rows = random_rows(200, seed=2)
    before = counted(rows, "clicks")
    changed = [
        row | {"click": 1 - row["click"]} if row["_day"] >= "2022-05-01" else row for row in rows
    ]
    assert [r["activity"] for r in counted(changed, "clicks")] == [r["activity"] for r in before]


def test_nothing_to_count_in_is_an_error():
    rows = [row for row in random_rows(50, seed=3) if row["_day"] >= "2022-05-01"]
    with pytest.raises(ActivityError, match="no row before `split.train_from` = '2022-05-01'"):
        counted(rows, "impressions")


def test_without_activity_rows_stay():
    impressions = store(make_engine(), random_rows(5, seed=0))
    assert add_activity(impressions, make_spec()) is impressions
