"""Writes a simulated log to a directory that appears whole or not at all."""

from __future__ import annotations

import fnmatch
import pathlib

import duckdb
import pyarrow as pa

from clsd_tf.features import ClickLogSpec
from data_pipeline.directories import whole_directory
from data_pipeline.simulated_log import SimulatedLog

_SPEC, _TRUTH = "spec.toml", "truth/truth.parquet"
# What a file name ends in -> how it is written.
_FORMATS = {
    ".parquet": "FORMAT parquet",
    ".csv.gz": "FORMAT csv, HEADER, COMPRESSION gzip",
    ".csv": "FORMAT csv, HEADER",
    ".jsonl": "FORMAT json",
    ".jsonl.gz": "FORMAT json, COMPRESSION gzip",
    ".json": "FORMAT json",
    ".ndjson": "FORMAT json",
}


def write_simulation(
    simulated: SimulatedLog,
    spec: ClickLogSpec,
    spec_text: str,
    directory: pathlib.Path,
    *,
    csv: bool = False,
    overwrite: bool = False,
) -> dict[str, int]:
    """Writes the log, its side tables, its spec and the truth.

    Args:
      simulated: what is written.
      spec: names the files of the log and of the side tables.
      spec_text: TOML of the spec.
      directory: is made; what stands there is replaced only if it is a simulated log.
      csv: .csv.gz and not Parquet, where the spec leaves it open.
      overwrite: replace a simulated log.

    Returns:
      File name -> rows.

    Raises:
      FileExistsError: the directory is in use.
      ValueError: the spec asks for files of an unknown format.
    """
    suffixes = sorted(_FORMATS, key=lambda suffix: csv and suffix != ".csv.gz")
    files = {file_name(spec.input.files, "log", suffixes): simulated.log}
    for name, table in simulated.tables.items():
        files[file_name(spec.tables[name].file, name, suffixes)] = table
    files[_TRUTH] = simulated.truth

    with whole_directory(directory, mark=_TRUTH, overwrite=overwrite) as beside:
        for name, table in files.items():
            _write(table, beside / name)
        (beside / _SPEC).write_text(spec_text, encoding="utf-8")
    return {name: table.num_rows for name, table in files.items()}


def file_name(pattern: str, stem: str, suffixes: list[str]) -> str:
    """A name that a glob finds and that ends in one of the suffixes, the first of them first."""
    names = [stem + suffix for suffix in suffixes]
    names += [pattern.replace("?", "0").replace("*", star) for star in ("0", "")]
    for name in names:
        if fnmatch.fnmatchcase(name, pattern) and _suffix(name):
            return name
    raise ValueError(
        f"A simulated log cannot be written so. Received: input.files = {pattern!r}. Expected: a "
        f"name or a glob that ends in one of {', '.join(_FORMATS)}."
    )


def _suffix(name: str) -> str | None:
    """The ending of a file name that says its format."""
    return next((suffix for suffix in _FORMATS if name.endswith(suffix) and name != suffix), None)


def _write(table: pa.Table, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.register("written", table)
        target = str(path).replace("'", "''")
        connection.execute(f"COPY written TO '{target}' ({_FORMATS[_suffix(path.name)]})")
