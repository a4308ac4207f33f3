"""The days of a simulated log, in the values that its spec divides them by."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pyarrow as pa

from clsd_tf.features import ClickLogSpec
from data_pipeline.simulation import DAY_MS

DEFAULT_DAYS = 10
_FIRST = datetime.date(2024, 1, 1)
_LEAD = 3  # days before the training window, where activity is counted
_EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclasses.dataclass(frozen=True)
class Days:
    """Consecutive days.

    Attributes:
      first: the first day, as an ordinal of `datetime.date`.
      count: number of days.
      train_from: index of the first training day.
      valid_from: index of the first validation day; `count` where days do not divide the log.
      numbered: the log's days are plain numbers, and this is the first one's.
    """

    first: int
    count: int
    train_from: int
    valid_from: int
    numbered: int | None = None

    def values(self, index: np.ndarray, column_type: str) -> pa.Array:
        """Days by index, as an int or string column of the log has them."""
        if self.numbered is not None:
            return pa.array(self.numbered + index)
        days = [datetime.date.fromordinal(self.first + i) for i in range(self.count)]
        if column_type == "int":
            return pa.array([int(f"{day:%Y%m%d}") for day in days]).take(pa.array(index))
        return pa.array([day.isoformat() for day in days]).take(pa.array(index))

    def epoch_ms(self, milliseconds: np.ndarray, utc_offset: float) -> np.ndarray:
        """Milliseconds since the first midnight at `utc_offset` hours -> epoch milliseconds."""
        midnight = (self.first - _EPOCH) * DAY_MS - round(utc_offset * 3_600_000)
        return midnight + milliseconds


def plan_days(spec: ClickLogSpec, count: int | None) -> Days:
    """The days that a log needs for the split of `spec`; the first day of test is the last one.

    Args:
      spec: of the log.
      count: number of days; by default 10, or as many as the split needs.

    Raises:
      ValueError: the split needs more days, or names its days in no known form.
    """
    split = spec.split
    lead = _LEAD if spec.activity else 0
    plain = isinstance(split.test_from, int) and _date(split.test_from) is None
    train = None if split.train_from is None else _ordinal(split.train_from, plain)
    if split.by != "day":
        first = _FIRST.toordinal() if train is None else train - lead
        count = _checked(count, lead + 1)
        return Days(first, count, 0 if train is None else lead, count)

    valid, test = _ordinal(split.valid_from, plain), _ordinal(split.test_from, plain)
    earliest = (valid - 1 if train is None else train) - lead
    count = _checked(count, test - earliest + 1)
    first = test - count + 1
    return Days(
        _FIRST.toordinal() if plain else first,
        count,
        0 if train is None else train - first,
        valid - first,
        first if plain else None,
    )


def _checked(count: int | None, least: int) -> int:
    if count is None:
        return max(DEFAULT_DAYS, least)
    if count < least:
        raise ValueError(f"The split of the spec needs at least {least} days. Received: {count}.")
    return count


def _ordinal(day: int | str, plain: bool) -> int:
    if plain:
        return int(day)
    date = _date(day)
    if date is None:
        raise ValueError(
            f"Days of the split cannot be simulated. Received: {day!r}. Expected: days such as "
            "20220504, '2022-05-04', or plain numbers."
        )
    return date.toordinal()


def _date(day: int | str) -> datetime.date | None:
    """The date of the number 20220504 or the string '2022-05-04', None for anything else."""
    if isinstance(day, str) and "-" not in day:
        return None
    try:
        return datetime.date.fromisoformat(str(day))
    except ValueError:
        return None
