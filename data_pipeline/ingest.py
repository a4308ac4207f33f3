"""Files -> a table of raw rows in the engine, of which each knows its file and its place there.

Nothing is interpreted here: values of CSV files are text, those of JSON lines are JSON, those of
Parquet files have the types of the file. A row that cannot be read at all is a row too, with its
text and the reason.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Collection, Sequence

import duckdb
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from data_pipeline.csv_rows import (
    FILE,
    NUMBER,
    OWN_COLUMNS,
    REASON,
    TEXT,
    CsvRows,
    listed,
    quoted,
    text,
    unreadable,
)
from data_pipeline.engines import keep_table
from data_pipeline.input_files import InputFiles, check_whole
from data_pipeline.raw_columns import check_names, check_needed, read_header

_RESERVED = frozenset(OWN_COLUMNS)


@dataclasses.dataclass(frozen=True)
class RawRows:
    """Rows as they were read.

    Attributes:
      table: raw columns, FILE, NUMBER, TEXT and REASON, which says why a row cannot be read.
      columns: the raw ones.
      files: that they were read from.
    """

    table: ir.Table
    columns: tuple[str, ...]
    files: InputFiles


Kept = Callable[[RawRows], ir.Table]


def read_rows(
    engine: Backend,
    name: str,
    files: InputFiles,
    needed: Collection[str] | None,
    kept: Kept | None = None,
) -> RawRows:
    """Reads files into tables of the engine whose names begin with `name`.

    Args:
      engine: where to.
      name: of the table that is made.
      files: of one format. Those of other formats than JSON must all have the needed columns.
      needed: columns that the spec names; None where it is to be found out which there are.
      kept: what is kept of rows that could be read, in place of the raw columns. Text that is
        turned into numbers as it is read needs not be stored. FILE, NUMBER, TEXT and REASON have
        to be among it; NUMBER is not known before all rows are read.

    Returns:
      The rows; those of `kept` are stored.

    Raises:
      ValueError: needed columns are missing, all of them named; or a file is empty or damaged.
    """
    readers = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json}
    check_whole(files)
    wanted = None if needed is None else sorted(needed)
    return readers[files.format](engine, name, files, wanted, kept)


def drop_rows(engine: Backend, name: str) -> None:
    """Removes what `read_rows` made in the engine, to give its disk back."""
    made = engine.raw_sql(f"""
        SELECT table_type, table_name FROM information_schema.tables
        WHERE starts_with(table_name, {text(name)})
    """).fetchall()
    for kind, table in made:
        kind = "VIEW" if kind == "VIEW" else "TABLE"
        engine.raw_sql(f"DROP {kind} {quoted(table)}")


def _read_csv(
    engine: Backend,
    name: str,
    files: InputFiles,
    needed: Sequence[str] | None,
    kept: Kept | None,
) -> RawRows:
    separator = "\t" if files.extension.startswith(".tsv") else ","
    same_header: dict[tuple[str, ...], list[pathlib.Path]] = {}
    for path in files.paths:
        header = read_header(path, separator)
        check_names(header, files.place(path), _RESERVED)
        check_needed(header, needed or (), files.place(path))
        same_header.setdefault(header, []).append(path)
    columns = tuple(dict.fromkeys(column for header in same_header for column in header))
    check_names(columns, files.title, _RESERVED)
    keep = None if kept is None else lambda table: kept(RawRows(table, columns, files))
    rows = CsvRows(engine, name, files, columns, keep)
    options = f"header=true, delim='{separator}', quote='\"', escape='\"', strict_mode=true"
    for header, paths in same_header.items():
        rows.read(paths, header, options)
    rows.number(header_lines=1)
    return RawRows(engine.table(name), columns, files)


def _read_json(
    engine: Backend,
    name: str,
    files: InputFiles,
    needed: Sequence[str] | None,
    kept: Kept | None,
) -> RawRows:
    """Lines are read as CSV with one column, by which bad UTF-8 and long lines are found too."""
    lines = f"{name}_lines"
    rows = CsvRows(engine, lines, files, ["line"])
    # A control character never stands in a line of JSON.
    options = "header=false, delim='\x01', quote='', escape='', comment='', strict_mode=false"
    rows.read(files.paths, ["line"], options)
    rows.number(header_lines=0)

    is_object = "json_valid(line) AND json_type(line) = 'OBJECT'"
    checked = f"SELECT *, CASE WHEN {is_object} THEN line END AS object FROM {quoted(lines)}"
    keys = engine.raw_sql(f"SELECT DISTINCT unnest(json_keys(object)) FROM ({checked})").fetchall()
    found = sorted(key for (key,) in keys)
    if needed is None:
        needed = found
    check_names(needed, files.title, _RESERVED)
    check_needed(found, needed, files.title)
    fields = json.dumps(dict.fromkeys(needed, "JSON"))
    engine.raw_sql(f"""
        CREATE OR REPLACE VIEW {quoted(name)} AS
        SELECT unnest(json_transform(object, {text(fields)})), {FILE}, {NUMBER},
          coalesce({TEXT}, line) AS {TEXT},
          CASE WHEN object IS NULL THEN coalesce({REASON}, 'row: not a JSON object') END
            AS {REASON}
        FROM ({checked}) WHERE line <> '' OR {REASON} IS NOT NULL
    """)
    return _kept(engine, name, RawRows(engine.table(name), tuple(needed), files), kept)


def _read_parquet(
    engine: Backend,
    name: str,
    files: InputFiles,
    needed: Sequence[str] | None,
    kept: Kept | None,
) -> RawRows:
    columns: dict[str, None] = {}
    for path in files.paths:
        try:
            found = pq.read_schema(path).names
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ValueError(
                f"{path} is not a Parquet file, or damaged. Received: {error} Expected: a whole "
                "Parquet file; fetch it again, or mend its name."
            ) from error
        # The engine counts rows in a column of this name.
        check_names(found, files.place(path), {*_RESERVED, "file_row_number"})
        check_needed(found, needed or (), files.place(path))
        columns |= dict.fromkeys(found)
    check_names(columns, files.title, _RESERVED)
    rows = ", ".join(f"rows.{quoted(column)}" for column in columns)
    order = ", ".join(f"({text(path)}, {i})" for i, path in enumerate(files.paths))
    engine.raw_sql(f"""
        CREATE OR REPLACE VIEW {quoted(name)} AS
        SELECT {rows}, files.index AS {FILE}, rows.file_row_number + 1 AS {NUMBER},
          NULL::VARCHAR AS {TEXT}, NULL::VARCHAR AS {REASON}
        FROM read_parquet({listed(files.paths)}, union_by_name=true, filename={text(FILE)},
          file_row_number=true, hive_partitioning=false) AS rows
        JOIN (VALUES {order}) AS files(path, index) ON rows.{FILE} = files.path
    """)
    return _kept(engine, name, RawRows(engine.table(name), tuple(columns), files), kept)


def _kept(engine: Backend, name: str, raw: RawRows, kept: Kept | None) -> RawRows:
    if kept is None:
        return raw
    try:
        table = keep_table(engine, f"{name}_kept", kept(raw))
    except duckdb.Error as error:  # Parquet is read no sooner
        raise unreadable(raw.files, error) from error
    return dataclasses.replace(raw, table=table)
