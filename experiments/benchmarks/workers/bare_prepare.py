"""A CSV file -> the arrays of a data set by DuckDB and NumPy, and nothing else.

A measure for what a preparation costs beyond that. It takes for granted what one never knows of a
log: values are there and are numbers, ids are small, rows are in order of time and none is there
twice. Nothing is checked, counted or kept beside the arrays, and there are no checksums.
"""

from __future__ import annotations

import pathlib

import duckdb
import numpy as np
from log_columns import column_types, log_file
from worker_protocol import serve

_TRAIN = 0.8
_ROWS_AT_ONCE = 65536
_UNKNOWN, _FIRST = 1, 2


class BarePreparation:
    """A step prepares the "rows" rows of the "log", with lists of "history" clicks."""

    def prepare(self, options: dict) -> dict:
        """Looks up the columns."""
        self._options = options
        self._types = column_types(options["log"])
        self._numbers = [name for name, kind in self._types.items() if kind == "FLOAT"]
        others = {*self._numbers, "segment", "click", "time_ms"}
        self._ids = [name for name in self._types if name not in others]
        return {"version": duckdb.__version__}

    def run(self, steps: int) -> int:
        """Prepares."""
        for _ in range(steps):
            self._prepare()
        return steps * self._options["rows"]

    def _prepare(self) -> None:
        columns = ", ".join([*self._ids, *self._numbers, "click::INTEGER AS click"])
        log = str(log_file(self._options["log"]))
        options = f"header = true, columns = {self._types}, auto_detect = false"
        query = f"SELECT {columns} FROM read_csv(?, {options})"
        raw = duckdb.connect().execute(query, [log]).fetchnumpy()
        rows = len(raw["click"])
        train = int(_TRAIN * rows)
        arrays = {name: _encoded(raw[name], train) for name in self._ids}
        arrays |= {name: _scaled(raw[name], train) for name in self._numbers}
        clicks = _Clicks(raw["user_id"], raw["click"], arrays["item_id"], self._options["history"])
        random = np.random.default_rng(0)
        order = np.concatenate([random.permutation(train), np.arange(train, rows)])
        target = pathlib.Path(self._options["output_dir"])
        target.mkdir(parents=True, exist_ok=True)
        with open(target / "rows.bin", "wb") as file:
            for start in range(0, rows, _ROWS_AT_ONCE):
                places = order[start : start + _ROWS_AT_ONCE]
                for values in (*arrays.values(), raw["click"]):
                    file.write(values[places])
                file.write(clicks.before(places))


class _Clicks:
    """Clicks of each user in the order of time."""

    def __init__(self, users: np.ndarray, clicks: np.ndarray, items: np.ndarray, length: int):
        order = np.argsort(users, kind="stable")
        users, clicks = users[order], clicks[order].astype(bool)
        before = np.cumsum(clicks) - clicks
        own = before - before[np.searchsorted(users, users)]
        self._items, self._length = items[order][clicks], length
        self._ends, self._counts = np.empty((2, len(order)), np.int64)
        self._ends[order], self._counts[order] = before, np.minimum(own, length)

    def before(self, rows: np.ndarray) -> np.ndarray:
        """Items that the users of some rows clicked before: int32 [rows, length], 0 for padding."""
        counts = self._counts[rows]
        in_row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        lists = np.zeros((len(rows), self._length), np.int32)
        lists[np.arange(self._length) < counts[:, np.newaxis]] = self._items[
            in_row + np.repeat(self._ends[rows] - counts, counts)
        ]
        return lists


def _encoded(values: np.ndarray, train: int) -> np.ndarray:
    """Ids by frequency among the first `train` rows."""
    counts = np.bincount(values[:train], minlength=int(values.max()) + 1)
    ids = np.empty(len(counts), np.int32)
    ids[np.argsort(-counts, kind="stable")] = np.arange(_FIRST, len(counts) + _FIRST)
    ids[counts == 0] = _UNKNOWN
    return ids[values]


def _scaled(values: np.ndarray, train: int) -> np.ndarray:
    return (values - values[:train].mean()) / values[:train].std()


if __name__ == "__main__":
    serve(BarePreparation())
