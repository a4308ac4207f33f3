"""A CSV file -> its values, by DuckDB: what no preparation by this engine can do without."""

from __future__ import annotations

import csv
import pathlib

import duckdb
from worker_protocol import serve


class DuckDBReading:
    """A step reads the "rows" rows of the "log" and adds up every column."""

    def prepare(self, options: dict) -> dict:
        """Looks up the columns."""
        self._rows = options["rows"]
        self._connection = duckdb.connect()
        file = str(pathlib.Path(options["log"]) / "log.csv")
        with open(file, encoding="utf-8", newline="") as lines:
            names = next(csv.reader(lines))
        types = {name: "DOUBLE" if name.startswith("x") else "BIGINT" for name in names}
        sums = ", ".join(f"sum({name})" for name in names)
        self._query = (
            f"SELECT {sums} FROM read_csv(?, header = true, columns = {types}, auto_detect = false)"
        )
        self._file = file
        return {"version": duckdb.__version__}

    def run(self, steps: int) -> int:
        """Reads."""
        for _ in range(steps):
            self._connection.execute(self._query, [self._file]).fetchall()
        return steps * self._rows


if __name__ == "__main__":
    serve(DuckDBReading())
