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
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf
from log_columns import column_types

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
        others = {*self.numbers, "segment", "click", "time_ms"}
        self.ids = [name for name in types if name not in others]
        self.history = options["history"]
        self.starts = options["starts"]

    def read(self, line: dict[str, str]) -> Row:
        """A row of its texts; ValueError where one is not what it has to be."""
        numbers = tuple(float(line[name]) for name in self.numbers)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("not a finite number")
        row = Row(
            tuple(int(line[name]) for name in self.ids),
            numbers,
            int(line["segment"]),
            int(line["click"]),
            int(line["time_ms"]),
        )
        if row.click not in (0, 1):
            raise ValueError("click: not 0 or 1")
        return row

    def split(self, row: Row) -> int:
        """0 for training, 1 for validation, 2 for test."""
        return sum(row.time >= start for start in self.starts)


class Counts:
    """Tokens of each column and moments of each number, of training rows."""

    def __init__(self, columns: Columns):
        self._tokens = [collections.Counter() for _ in columns.ids]
        self._moments = [[0, 0.0, 0.0] for _ in columns.numbers]

    def add(self, row: Row) -> None:
        """Counts a row."""
        for counter, token in zip(self._tokens, row.ids, strict=True):
            counter[token] += 1
        for moments, number in zip(self._moments, row.numbers, strict=True):
            moments[0] += 1
            moments[1] += number
            moments[2] += number * number

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
    features = {}
    for name, ids, token in zip(columns.ids, encoding.vocabularies, row.ids, strict=True):
        features[name] = _ints([ids.get(token, _UNKNOWN)])
    for name, (mean, deviation), number in zip(
        columns.numbers, encoding.scales, row.numbers, strict=True
    ):
        features[name] = _floats([(number - mean) / deviation])
    items = encoding.vocabularies[1]
    features["click_history"] = _ints([items.get(item, _UNKNOWN) for item in history])
    features["_label"] = _ints([row.click])
    features["_weight"] = _floats([1.0])
    features["_group"] = _ints([row.segment + 1])
    features["_user"] = _ints([row.ids[0]])
    features["_row"] = _ints([row.time])  # in this order, if not from 0
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _ints(values: list[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values: list[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def starts_of_splits(lines: Iterable[str]) -> list[int]:
    """Times at which eight and nine tenths of those in a file have passed."""
    times = sorted({int(line["time_ms"]) for line in csv.DictReader(lines)})
    return [times[len(times) * tenths // 10] for tenths in (8, 9)]
