"""Small raw logs as files of any format, and what loading makes of them."""

from __future__ import annotations

import csv
import gzip
import json
import pathlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from clsd_tf.spec import parse_spec
from data_pipeline.engines import open_engine
from data_pipeline.loading import Loaded, load_impressions

COLUMNS = """
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary" }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int", unit = "s" }
"""
BY_TIME = '[split]\nby = "time"'
START = 1_650_000_000  # 2022-04-15 05:20 UTC


def make_spec(columns: str = "", sections: str = BY_TIME, base: str = COLUMNS):
    """A spec with the columns that every log has, and others."""
    return parse_spec(f'name = "small"\n{sections}\n[columns]\n{base}\n{columns}')


def row(number: int = 0, **values: object) -> dict:
    """A good row; `number` makes it differ from others."""
    return {"user_id": 7, "item_id": f"i{number}", "click": 0, "time": START + number} | values


def write_csv(path: pathlib.Path, rows: Sequence[dict]) -> pathlib.Path:
    """Writes rows as CSV, compressed if the name says so; None is an empty field."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: pathlib.Path, rows: Sequence[dict]) -> pathlib.Path:
    """Writes rows as Parquet, in the types of their values."""
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_json_lines(path: pathlib.Path, rows: Sequence[dict]) -> pathlib.Path:
    """Writes rows as JSON lines, compressed if the name says so; None is left out."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        for values in rows:
            present = {name: value for name, value in values.items() if value is not None}
            file.write(json.dumps(present) + "\n")
    return path


def load(
    directory: pathlib.Path, spec, inputs: pathlib.Path | str, *, threads: int = 2, **options
) -> Loaded:
    """Loads `inputs` with an engine of its own; output goes to `<directory>/out`."""
    engine = open_engine(directory / f"engine-{threads}", threads=threads)
    return load_impressions(engine, spec, inputs, directory / "out", **options)


def rows_of(loaded: Loaded) -> list[dict]:
    """The impressions in their order."""
    return loaded.impressions.order_by("_row").to_pyarrow().to_pylist()


def quarantine(directory: pathlib.Path, name: str = "part-0") -> list[dict]:
    """Bad rows of a log that was loaded by `load`."""
    return pq.read_table(directory / "out" / "quarantine" / f"{name}.parquet").to_pylist()
