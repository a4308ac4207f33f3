"""Which split an impression belongs to: by day, by time, or by user."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from clsd_tf.features import ClickLogSpec
from data_pipeline.days import DAY
from data_pipeline.hashing import hashed, threshold

SPLIT = "_split"
SPLITS = ("train", "valid", "test")
# Before the training window: feeds activity groups and click histories only.
HISTORY = "history"


class SplitError(ValueError):
    """Rows that cannot be divided as the spec says."""


def add_split(impressions: ir.Table, spec: ClickLogSpec) -> ir.Table:
    """Adds `_split`: "history", "train", "valid" or "test".

    Days are compared in the type of the day column's values. By time, the last fractions of the
    rows from `train_from` on are test and validation; the timestamp at a boundary goes to the later
    split as a whole. By user, the hash of the user's canonical id decides, whatever the seed.

    Args:
      impressions: `_row`, `_time`, `_day` and the user, see `data_pipeline.loading`.
      spec: of the log.

    Raises:
      SplitError: a row has no day but is to be divided by it, or `split.train_from` is not of the
        type of the days.
    """
    past = _before_training(impressions, spec)
    if spec.split.by == "day":
        split = _by_day(impressions, spec, past)
    elif spec.split.by == "time":
        split = _by_time(impressions, spec, past)
    else:
        split = _by_user(impressions, spec, past)
    return impressions.mutate(**{SPLIT: split})


def split_sizes(rows: ir.Table) -> dict[str, int]:
    """Rows of each split, "history" included; 0 where there are none.

    Raises:
      SplitError: there is nothing to train on.
    """
    counted = rows.group_by(SPLIT).agg(rows=rows.count()).to_pyarrow().to_pylist()
    found = {row[SPLIT]: row["rows"] for row in counted}
    sizes = {name: found.get(name, 0) for name in (HISTORY, *SPLITS)}
    if not sizes["train"]:
        days = rows.aggregate(first=rows[DAY].min(), last=rows[DAY].max()).to_pyarrow()
        first, last = days.to_pylist()[0].values()
        listed = ", ".join(f"{name} {count}" for name, count in sizes.items())
        raise SplitError(
            f"The training split is empty. Received: {listed} rows, of the days {first} to {last}. "
            "Expected: rows to train on. Change [split] in the spec, or --first_day and --last_day."
        )
    return sizes


def _before_training(impressions: ir.Table, spec: ClickLogSpec) -> ir.BooleanValue:
    start = spec.split.train_from
    return ibis.literal(False) if start is None else _days(impressions, spec) < start


def _by_day(impressions: ir.Table, spec: ClickLogSpec, past: ir.BooleanValue) -> ir.StringValue:
    day = _days(impressions, spec)
    return ibis.cases(
        (past, HISTORY),
        (day < spec.split.valid_from, "train"),
        (day < spec.split.test_from, "valid"),
        else_="test",
    )


def _by_time(impressions: ir.Table, spec: ClickLogSpec, past: ir.BooleanValue) -> ir.StringValue:
    current = impressions.filter(~past).select("_time")
    count = int(current.count().to_pyarrow().as_py())
    first_test = count - round(count * spec.split.test_fraction)
    first_valid = first_test - round(count * spec.split.valid_fraction)
    time = impressions["_time"]
    return ibis.cases(
        (past, HISTORY),
        (_earlier(current, first_valid, time), "train"),
        (_earlier(current, first_test, time), "valid"),
        else_="test",
    )


def _earlier(current: ir.Table, place: int, time: ir.IntegerValue) -> ir.BooleanValue:
    """Whether `time` is before that of the row at `place`; always, if there is no such row."""
    found = current.order_by("_time").limit(1, offset=place).to_pyarrow()["_time"]
    return time < found[0].as_py() if len(found) else ibis.literal(True)


def _by_user(impressions: ir.Table, spec: ClickLogSpec, past: ir.BooleanValue) -> ir.StringValue:
    split = spec.split
    chance = hashed("split", 0, impressions[spec.user.name])
    return ibis.cases(
        (past, HISTORY),
        (chance < threshold(split.test_fraction), "test"),
        (chance < threshold(split.test_fraction + split.valid_fraction), "valid"),
        else_="train",
    )


def _days(impressions: ir.Table, spec: ClickLogSpec) -> ir.Value:
    """The days in the type that the spec's day values have."""
    column = spec.split.day_column
    is_int = column is not None and spec.column(column).type == "int"
    start = spec.split.train_from
    if start is not None and isinstance(start, int) != is_int:
        raise SplitError(
            f"`split.train_from` is not of the type of the days. Received: {start!r}. Expected: "
            f"{'an integer like 20220425' if is_int else 'a string like 2022-04-25'}."
        )
    day = impressions[DAY]
    undated = int(day.isnull().sum().fill_null(0).to_pyarrow().as_py())
    if undated:
        raise SplitError(
            f"{undated} rows have no day. Received: a missing value in '{column}', which "
            "`split.day_column` names. Expected: a day in each row; without `day_column` it is "
            "taken from the timestamp."
        )
    return day.cast("int64") if is_int else day
