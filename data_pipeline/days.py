"""The day of each impression, as the log counts days."""

from __future__ import annotations

import ibis.expr.types as ir

from clsd_tf.features import ClickLogSpec
from data_pipeline.checks import TIME

DAY = "_day"
_HOUR = 3_600_000_000  # microseconds


def with_day(spec: ClickLogSpec, rows: ir.Table) -> ir.Table:
    """Adds `_day`: the day column as text, or the date YYYY-MM-DD of TIME at `split.utc_offset`."""
    return rows.mutate(**{DAY: _day(spec, rows)})


def of_days(
    spec: ClickLogSpec, rows: ir.Table, first: int | str | None, last: int | str | None
) -> ir.Table:
    """The rows from day `first` to day `last`, compared as numbers if the day column is one.

    Without bounds it is `rows` itself.

    Raises:
      ValueError: a day is not like those of the log.
    """
    is_number = spec.split.day_column and spec.column(spec.split.day_column).type != "string"
    day = rows[spec.split.day_column] if is_number else _day(spec, rows)
    for name, bound in (("first_day", first), ("last_day", last)):
        if bound is not None:
            value = _day_number(name, bound) if is_number else str(bound)
            rows = rows.filter(day >= value if name == "first_day" else day <= value)
    return rows


def _day(spec: ClickLogSpec, rows: ir.Table) -> ir.StringValue:
    if spec.split.day_column is not None:
        return rows[spec.split.day_column].cast("string")
    local = rows[TIME] + round(spec.split.utc_offset * _HOUR)
    return (local // 1_000_000).as_timestamp("s").date().cast("string")


def _day_number(name: str, bound: int | str) -> int:
    try:
        return int(bound)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a number, as the days of the log are. Received: {bound!r}. "
            "Expected: like 20220504."
        ) from error
