"""Profiles of a log of another day, and of served requests; both without TensorFlow."""

from __future__ import annotations

import pathlib

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.spec import read_spec
from data_pipeline.casts import cast_column
from data_pipeline.column_shares import column_shares, unknown_shares
from data_pipeline.csv_rows import REASON
from data_pipeline.drift import Profile
from data_pipeline.engines import keep_table, open_engine
from data_pipeline.ingest import read_rows
from data_pipeline.input_files import find_log
from data_pipeline.loading import load_impressions
from data_pipeline.manifest import Manifest

_ANY = 1.0  # how many bad rows there are is for the report to say
_LISTED = 1_000_000  # values of an identity encoding that are listed to be looked up


def profile_log(data_dir: pathlib.Path, inputs: str, place: pathlib.Path) -> Profile:
    """The profile of a log.

    Args:
      data_dir: data set whose spec and encoding count.
      inputs: a file, a glob or a directory.
      place: an empty directory for what is only needed meanwhile.

    Raises:
      FileNotFoundError: there is no log.
      ValueError: log and spec do not fit; columns that are missing are all named.
    """
    spec = _spec(data_dir)
    engine = open_engine(place / "engine")
    try:
        loaded = load_impressions(engine, spec, inputs, place / "out", max_bad_fraction=_ANY)
        rows = loaded.impressions
        clicks = engine.to_pyarrow(rows[spec.label.name].mean()).as_py()
        columns = [c for c in spec.encoded_columns if not c.derived]
        return Profile(
            rows=loaded.counts.kept,
            click_rate=float(clicks),
            columns=column_shares(engine, rows, spec, columns),
            unknown=unknown_shares(engine, rows, columns, _known(engine, spec, data_dir)),
            bad_rows=loaded.counts.bad_rows,
        )
    finally:
        engine.disconnect()


def profile_requests(data_dir: pathlib.Path, path: str, place: pathlib.Path) -> Profile:
    """The profile of requests, JSON lines of raw features; see `profile_log`.

    A value that cannot be read in the type of its column counts as missing, as it does where the
    model is served. Only the derived click history is sent besides columns of the log.
    """
    spec = _spec(data_dir)
    engine = open_engine(place / "engine")
    try:
        raw = read_rows(engine, "requests", find_log(path, "*"), None)
        columns = [c for c in spec.model_columns if c.name in raw.columns]
        absent = [c.name for c in spec.model_columns if c.name not in raw.columns]
        typed = raw.table.filter(raw.table[REASON].isnull())
        typed = typed.select(**{c.name: cast_column(c, typed[c.name]) for c in columns})
        rows = keep_table(engine, "typed_requests", typed) if columns else typed
        total = int(engine.to_pyarrow(raw.table.count()).as_py())
        usable = int(engine.to_pyarrow(rows.count()).as_py()) if columns else 0
        return Profile(
            rows=usable,
            click_rate=None,
            columns=column_shares(engine, rows, spec, columns) if usable else {},
            unknown=unknown_shares(engine, rows, columns, _known(engine, spec, data_dir)),
            absent=tuple(absent),
            bad_rows=total - usable,
        )
    finally:
        engine.disconnect()


def _spec(data_dir: pathlib.Path) -> ClickLogSpec:
    Manifest.load(data_dir)  # says what is wrong with the directory
    return read_spec(data_dir / "spec.toml")


def _known(engine: Backend, spec: ClickLogSpec, data_dir: pathlib.Path) -> dict[str, ir.Table]:
    """Column -> what its encoding knows; of columns that hash or measure, nothing."""
    tables: dict[str, ir.Table] = {}
    known = {}
    for column in spec.encoded_columns:
        owner = spec.owner(column)
        if owner.encoding not in ("vocabulary", "identity") or (owner.num_values or 0) > _LISTED:
            continue
        if owner.name not in tables:
            tokens = ibis.memtable(pa.table({"token": _tokens(data_dir, owner)}))
            tables[owner.name] = engine.create_table(f"known_{owner.name}", tokens)
        known[column.name] = tables[owner.name]
    return known


def _tokens(data_dir: pathlib.Path, column: ColumnSpec) -> pa.Array:
    if column.encoding == "identity":
        return pa.array(range(column.num_values), pa.int64())
    path = data_dir / "vocab" / f"{column.name}.txt"
    tokens = pa.array(path.read_text(encoding="utf-8").split("\n")[:-1], pa.string())
    return tokens.cast(pa.int64()) if column.type == "int" else tokens
