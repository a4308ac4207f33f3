"""A CSV file -> its values, by DuckDB: what no preparation by this engine can do without."""

from __future__ import annotations

import duckdb
from log_columns import column_types, log_file
from worker_protocol import serve


class DuckDBReading:
    """A step reads the "rows" rows of the "log" and adds up every column."""

    def prepare(self, options: dict) -> dict:
        """Looks up the columns."""
        self._rows = options["rows"]
        self._connection = duckdb.connect()
        types = column_types(options["log"])
        sums = ", ".join(f"sum({name})" for name in types)
        self._query = (
            f"SELECT {sums} FROM read_csv(?, header = true, columns = {types}, auto_detect = false)"
        )
        self._file = str(log_file(options["log"]))
        return {"version": duckdb.__version__}

    def run(self, steps: int) -> int:
        """Reads."""
        for _ in range(steps):
            self._connection.execute(self._query, [self._file]).fetchall()
        return steps * self._rows


if __name__ == "__main__":
    serve(DuckDBReading())
