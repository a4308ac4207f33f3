"""Click histories against a plain Python reference."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.history import END, LENGTH, ClickHistories, click_histories
from data_pipeline.splits import add_split
from tests.data_pipeline.impressions import (
    BY_DAY,
    COLUMNS,
    make_engine,
    make_spec,
    random_rows,
    rows_of,
    store,
)

LAST = 3
SECTIONS = f"{BY_DAY}[history]\nlength = {LAST}\n"


def reference(rows: list[dict]) -> dict[int, list[int]]:
    """History of each row that has one, by definition."""
    histories = {}
    for row in rows:
        earlier = [
            (other["_time"], other["_row"], other["item_id"])
            for other in rows
            if other["user_id"] == row["user_id"]
            and other["_time"] < row["_time"]
            and other["click"]
        ]
        if earlier and row["_day"] >= "2022-05-01":
            histories[row["_row"]] = [item for *_, item in sorted(earlier)[-LAST:]]
    return histories


def histories_of(rows: list[dict], columns: str = COLUMNS, threads: int = 2) -> dict[int, list]:
    spec = make_spec(SECTIONS, columns)
    engine = make_engine(threads)
    with tempfile.TemporaryDirectory() as place:
        table = add_split(store(engine, rows), spec)
        found = click_histories(engine, table, spec, pathlib.Path(place))
        assert not any(pathlib.Path(place).iterdir())
    stretches = rows_of(found.stretches)
    ends, lengths = (np.array([row[name] for row in stretches], np.int64) for name in (END, LENGTH))
    lists = found.lists(ends, lengths).to_pylist()
    return {row["_row"]: items for row, items in zip(stretches, lists, strict=True)}


def test_golden():
    rows = [
        # time, item, click of one user
        (10, 1, 1),
        (10, 2, 1),
        (10, 3, 0),
        (11, 4, 1),
        (12, 5, 1),
        (12, 6, 0),
        (13, 7, 0),
    ]
    rows = [
        {"_row": row, "_time": time, "_day": "2022-05-01", "user_id": 8, "item_id": i, "click": y}
        for row, (time, i, y) in enumerate(rows)
    ]
    assert histories_of(rows) == {3: [1, 2], 4: [1, 2, 4], 5: [1, 2, 4], 6: [2, 4, 5]}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_times", [2, 12, 400])
def test_is_the_reference_whatever_the_ties(seed, num_times):
    rows = random_rows(150, seed, num_times)
    assert histories_of(rows) == reference(rows)


def test_items_may_be_strings():
    rows = random_rows(80, seed=7)
    expected = {row: [f"i{item}" for item in items] for row, items in reference(rows).items()}
    rows = [row | {"item_id": f"i{row['item_id']}"} for row in rows]
    columns = COLUMNS.replace('"item", type = "int"', '"item", type = "string"')
    assert histories_of(rows, columns) == expected


def test_labels_of_the_same_time_and_later_change_nothing():
    rows = random_rows(200, seed=8)
    time = rows[120]["_time"]
    flipped = [row | {"click": 1 - row["click"]} if row["_time"] >= time else row for row in rows]
    before, after = histories_of(rows), histories_of(flipped)
    known = [row["_row"] for row in rows if row["_time"] <= time]
    assert [before.get(row) for row in known] == [after.get(row) for row in known]
    assert before != after


def test_threads_change_nothing():
    rows = random_rows(3000, seed=9)
    assert histories_of(rows, threads=1) == histories_of(rows, threads=2)


def test_a_log_without_clicks_has_none():
    assert histories_of([row | {"click": 0} for row in random_rows(40, seed=10)]) == {}


@pytest.mark.parametrize("texts", [None, ["a", "b", "c", "d", "e"]])
def test_lists_are_stretches_of_the_clicks(texts):
    clicks = np.arange(5)[::-1]
    histories = ClickHistories(None, clicks, texts and pa.array(texts))
    lists = histories.lists(np.array([3, 0, 5, 5]), np.array([2, 0, 1, 5])).to_pylist()
    expected = [[3, 2], [], [0], [4, 3, 2, 1, 0]]
    assert lists == [[texts[i] if texts else i for i in items] for items in expected]
