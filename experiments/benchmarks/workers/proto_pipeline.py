"""A CSV file -> the rows of `clsd-prepare` in the layout `row`, by one program in plain Python.

All that it reads is kept in memory, as `Row`.
"""

from __future__ import annotations

import csv
import itertools
import pathlib
import random

import tensorflow as tf
from log_columns import log_file
from row_pipeline import SPLITS, Columns, Counts, Row, record, starts_of_splits, with_histories
from worker_protocol import serve


class ProtoPipeline:
    """A step prepares "rows" of the "log" into "output_dir", with lists of "history" clicks."""

    def prepare(self, options: dict) -> dict:
        """Finds where splits begin."""
        self._rows = options["rows"]
        self._source = log_file(options["log"])
        self._target = pathlib.Path(options["output_dir"])
        self._target.mkdir(parents=True, exist_ok=True)
        with self._source.open(encoding="utf-8", newline="") as file:
            starts = starts_of_splits(itertools.islice(file, 1 + self._rows))
        self._columns = Columns({**options, "starts": starts})
        return {}

    def run(self, steps: int) -> int:
        """Prepares."""
        for _ in range(steps):
            self._prepare()
        return steps * self._rows

    def _prepare(self) -> None:
        columns, counts = self._columns, Counts(self._columns)
        rows = sorted(self._read(), key=lambda row: row.time)
        splits: list[list[tuple[Row, list[int]]]] = [[], [], []]
        for row, history in with_histories(rows, columns.history):
            splits[columns.split(row)].append((row, history))
        counts.add(row for row, _ in splits[0])
        encoding = counts.encoding()
        random.Random(0).shuffle(splits[0])
        for name, of_split in zip(SPLITS, splits, strict=True):
            with tf.io.TFRecordWriter(str(self._target / f"{name}.tfrecord")) as writer:
                for row, history in of_split:
                    writer.write(record(columns, encoding, row, history))

    def _read(self) -> list[Row]:
        """Good rows, each once; others go to `bad_rows.csv`."""
        rows: dict[Row, None] = {}
        with (
            self._source.open(encoding="utf-8", newline="") as file,
            (self._target / "bad_rows.csv").open("w", encoding="utf-8", newline="") as bad,
        ):
            quarantine = csv.writer(bad)
            lines = csv.reader(file)
            next(lines)
            for values in itertools.islice(lines, self._rows):
                try:
                    rows[self._columns.read(values)] = None
                except ValueError as error:
                    quarantine.writerow([*values, str(error)])
        return list(rows)


if __name__ == "__main__":
    serve(ProtoPipeline())
