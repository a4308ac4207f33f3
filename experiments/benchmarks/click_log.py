"""The click log of the benchmark, and the data sets that are made of it once.

Ids of a column are drawn so that the chance of an id falls with its rank, r^(-2/3), as items and
users of click logs do; clicks depend on user, item and two numbers, so that training has something
to learn. The history of clicks is what `clsd-prepare` finds.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

_CHUNK_ROWS = 250_000
_START_MS = 1_650_000_000_000
_GROUPS = 4


@dataclasses.dataclass(frozen=True)
class LogSize:
    """Size of a log.

    Attributes:
      rows: impressions; eight tenths of them are for training.
      categorical: columns of ids, user and item included; at least 2.
      numeric: columns of numbers; at least 2.
      vocabulary: ids that a categorical column draws from.
      history: clicks that are kept of each user.
    """

    rows: int = 2_000_000
    categorical: int = 20
    numeric: int = 6
    vocabulary: int = 100_000
    history: int = 50

    @property
    def name(self) -> str:
        """Of its directory."""
        sizes = (self.rows, self.categorical, self.numeric, self.vocabulary, self.history)
        return "log_" + "_".join(map(str, sizes))

    @property
    def ids(self) -> list[str]:
        """Names of the categorical columns."""
        return ["user_id", "item_id", *(f"c{i:02d}" for i in range(2, self.categorical))]

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric columns."""
        return [f"x{i}" for i in range(self.numeric)]


def spec_text(size: LogSize) -> str:
    """The spec of a log of this size."""
    roles = {"user_id": 'role = "user", ', "item_id": 'role = "item", '}
    ids = [f'{n} = {{ {roles.get(n, "")}type = "int", encoding = "vocabulary" }}' for n in size.ids]
    numbers = [
        f'{name} = {{ type = "float", encoding = "numeric", scaling = "standard" }}'
        for name in size.numbers
    ]
    group = (
        f'segment = {{ role = "group", type = "int", encoding = "identity", num_values = {_GROUPS},'
    )
    lines = [
        'name = "benchmark"',
        "[input]",
        'files = "*.csv"',
        "[split]",
        'by = "time"',
        "[history]",
        f"length = {size.history}",
        "[columns]",
        *ids,
        *numbers,
        group + " model_input = false }",
        'click = { role = "label", type = "int" }',
        'time_ms = { role = "timestamp", type = "int", unit = "ms" }',
    ]
    return "\n".join(lines) + "\n"


def log_tables(size: LogSize, seed: int = 0) -> Iterator[pa.Table]:
    """Yields the rows of a log, in order of time."""
    random = np.random.default_rng(seed)
    effects = {name: random.normal(0, 0.8, size.vocabulary) for name in ("user_id", "item_id")}
    for start in range(0, size.rows, _CHUNK_ROWS):
        rows = min(_CHUNK_ROWS, size.rows - start)
        columns: dict[str, np.ndarray] = {
            name: (size.vocabulary * random.random(rows) ** 3).astype(np.int64) for name in size.ids
        }
        columns |= {name: random.normal(0, 1, rows).round(4) for name in size.numbers}
        logit = columns["x0"] * columns["x1"] - 1.2
        logit += sum(effect[columns[name]] for name, effect in effects.items())
        columns["segment"] = columns["user_id"] % _GROUPS
        columns["click"] = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
        columns["time_ms"] = _START_MS + 1000 * np.arange(start, start + rows)
        yield pa.table(columns)


def make_log(directory: pathlib.Path, size: LogSize) -> pathlib.Path:
    """Directory with `log.csv` and `spec.toml`, made unless it is there."""
    place = directory / size.name

    def write(beside: pathlib.Path) -> None:
        (beside / "spec.toml").write_text(spec_text(size), encoding="utf-8")
        tables = log_tables(size)
        first = next(tables)
        with pa_csv.CSVWriter(beside / "log.csv", first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)

    return _whole(place, write)


def make_prepared(directory: pathlib.Path, size: LogSize, layout: str = "columnar") -> pathlib.Path:
    """The log prepared by `clsd-prepare` in a layout, unless it is there."""
    log = make_log(directory, size)
    place = directory / f"{size.name}_{layout}"
    if not place.exists():
        _run(
            "data_pipeline.prepare",
            f"--spec={log / 'spec.toml'}",
            f"--input={log}",
            f"--output_dir={place}",
            f"--layout={layout}",
        )
    return place


def make_arrays(directory: pathlib.Path, size: LogSize) -> pathlib.Path:
    """The encoded training rows as `.npy` files, see `workers/arrays.py`, unless they are there."""
    prepared = make_prepared(directory, size)
    return _whole(
        directory / f"{size.name}_arrays",
        lambda beside: _run("experiments.benchmarks.encoded_rows", str(prepared), str(beside)),
    )


def _whole(place: pathlib.Path, write) -> pathlib.Path:
    """A directory that appears when it is whole."""
    if not place.exists():
        beside = place.with_name(f".{place.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write(beside)
        os.rename(beside, place)
    return place


def _run(module: str, *arguments: str) -> None:
    """Runs a module of this project in a process of its own, so that this one stays small."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed. Received:\n{done.stderr.strip()}")
