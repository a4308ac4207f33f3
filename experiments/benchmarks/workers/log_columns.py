"""The columns of the benchmark's log, by their names."""

from __future__ import annotations

import csv
import pathlib


def log_file(log: str) -> pathlib.Path:
    """The rows of a log."""
    return pathlib.Path(log) / "log.csv"


def column_types(log: str) -> dict[str, str]:
    """Columns of a log and their types for DuckDB: numbers are named x0, x1 and so on."""
    with log_file(log).open(encoding="utf-8", newline="") as lines:
        names = next(csv.reader(lines))
    return {name: "FLOAT" if name.startswith("x") else "BIGINT" for name in names}
