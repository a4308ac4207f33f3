"""What peers of `clsd-prepare` do with a row, in plain Python.

As few operations as the work allows. Bad rows are told apart, tokens counted, numbers scaled, and
clicks gathered by user; what `clsd-prepare` keeps beside (keys of rows, checksums, rates of unknown
tokens) is left out.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import math
import operator
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf
from log_columns import column_types

SPLITS = ("train", "valid", "test")
_UNKNOWN, _FIRST = 1, 2


class Row(NamedTuple):
    """A row that could be read; its ids are those of user, item and then the other columns."""

    ids: tuple[int, ...]
    numbers: tuple[float, ...]
    segment: int
    click: int
    time: int


class Columns:
    """The columns of a "log", and the times where splits begin."""

    def __init__(self, options: dict):
        types = column_types(options["log"])
        self.names = list(types)
        self.numbers = [name for name, kind in types.items() if kind == "FLOAT"]
        others = ["segment", "click", "time_ms"]
        self.ids = [name for name in types if name not in {*self.numbers, *others}]
        self._ids, self._numbers, self._others = (
            operator.itemgetter(*map(self.names.index, names))
            for names in (self.ids, self.numbers, others)
        )
        self.history = options["history"]
        self.starts = options["starts"]

    def read(self, values: list[str]) -> Row:
        """A row of its texts; ValueError where one is not what it has to be."""
        if len(values) != len(self.names):
            raise ValueError("another number of columns")
        numbers = tuple(map(float, self._numbers(values)))
        if not all(map(math.isfinite, numbers)):
            raise ValueError("not a finite number")
        segment, click, time = map(int, self._others(values))
        row = Row(tuple(map(int, self._ids(values))), numbers, segment, click, time)
        if row.click not in (0, 1):
            raise ValueError("click: not 0 or 1")
        return row

    def split(self, row: Row) -> int:
        """Its place in `SPLITS`."""
        return sum(row.time >= start for start in self.starts)


class Counts:
    """Tokens of each column and moments of each number, of training rows."""

    def __init__(self, columns: Columns):
        self._tokens = [collections.Counter() for _ in columns.ids]
        self._moments = [[0, 0.0, 0.0] for _ in columns.numbers]

    def add(self, rows: Iterable[Row]) -> None:
        """Counts rows, column by column."""
        ids, numbers = zip(*((row.ids, row.numbers) for row in rows), strict=True)
        for counter, tokens in zip(self._tokens, zip(*ids, strict=True), strict=True):
            counter.update(tokens)
        for moments, values in zip(self._moments, zip(*numbers, strict=True), strict=True):
            moments[0] += len(values)
            moments[1] += sum(values)
            moments[2] += sum(value * value for value in values)

    def merge(self, others: Iterable[Counts]) -> Counts:
        """Adds what others have counted."""
        for other in others:
            for counter, more in zip(self._tokens, other._tokens, strict=True):
                counter.update(more)
            for moments, added in zip(self._moments, other._moments, strict=True):
                moments[:] = [a + b for a, b in zip(moments, added, strict=True)]
        return self

    def encoding(self) -> Encoding:
        """Ids by frequency, and scales."""
        vocabularies = [
            {token: _FIRST + i for i, token in enumerate(sorted(c, key=lambda t: (-c[t], t)))}
            for c in self._tokens
        ]
        scales = []
        for count, total, squares in self._moments:
            mean = total / count
            scales.append((mean, math.sqrt(squares / count - mean * mean)))
        return Encoding(vocabularies, scales)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Token -> id for each column of ids; mean and deviation for each of numbers."""

    vocabularies: list[dict[int, int]]
    scales: list[tuple[float, float]]


def with_histories(rows: Iterable[Row], length: int) -> Iterator[tuple[Row, list[int]]]:
    """Rows in the order of time, each with the items that its user clicked before, at most so many.

    A click at the time of a row itself is not before it.
    """
    clicked = collections.defaultdict(lambda: collections.deque(maxlen=length))
    waiting = []
    for row in rows:
        if waiting and waiting[0].time < row.time:
            for earlier in waiting:
                clicked[earlier.ids[0]].append(earlier.ids[1])
            waiting.clear()
        yield row, list(clicked[row.ids[0]])
        if row.click:
            waiting.append(row)


def record(columns: Columns, encoding: Encoding, row: Row, history: Iterable[int]) -> bytes:
    """An Example with what `clsd-prepare` writes of a row in the layout `row`."""
    example = tf.train.Example()
    features = example.features.feature  # filled in place, which takes half of what copies take
    for name, ids, token in zip(columns.ids, encoding.vocabularies, row.ids, strict=True):
        features[name].int64_list.value.append(ids.get(token, _UNKNOWN))
    for name, (mean, deviation), number in zip(
        columns.numbers, encoding.scales, row.numbers, strict=True
    ):
        features[name].float_list.value.append((number - mean) / deviation)
    items = encoding.vocabularies[1]
    features["click_history"].int64_list.value.extend(items.get(i, _UNKNOWN) for i in history)
    features["_label"].int64_list.value.append(row.click)
    features["_weight"].float_list.value.append(1.0)
    features["_group"].int64_list.value.append(row.segment + 1)
    features["_user"].int64_list.value.append(row.ids[0])
    features["_row"].int64_list.value.append(row.time)  # in this order, if not from 0
    return example.SerializeToString()


def starts_of_splits(lines: Iterable[str]) -> list[int]:
    """Times at which eight and nine tenths of those in a file have passed."""
    times = sorted({int(line["time_ms"]) for line in csv.DictReader(lines)})
    return [times[len(times) * tenths // 10] for tenths in (8, 9)]
