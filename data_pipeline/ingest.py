"""Files -> a table of raw rows in the engine, of which each knows its file and its place there.

Nothing is interpreted here: values of CSV files are text, those of JSON lines are JSON, those of
Parquet files have the types of the file. A row that cannot be read at all is a row too, with its
text and the reason.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Collection, Iterable, Sequence

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from data_pipeline.engines import UNREADABLE_FILES, lacks_room, told
from data_pipeline.input_files import InputFiles, check_whole
from data_pipeline.raw_columns import check_names, check_needed, read_header

# Columns beside the raw ones: index of the file, number of the row in it (the first is 1), the
# whole row as text where its columns could not be told apart, and why they could not.
FILE, NUMBER, TEXT, UNREADABLE = "__file", "__number", "__text", "__unreadable"
_RESERVED = frozenset({FILE, NUMBER, TEXT, UNREADABLE})
_REASONS = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "broken quotes",
    "INVALID ENCODING": "not UTF-8",
    "LINE SIZE OVER MAXIMUM": "too long",
}


@dataclasses.dataclass(frozen=True)
class RawRows:
    """Rows as they were read.

    Attributes:
      table: raw columns, FILE, NUMBER, TEXT and UNREADABLE.
      columns: the raw ones.
      files: that they were read from.
    """

    table: ir.Table
    columns: tuple[str, ...]
    files: InputFiles


def read_rows(
    engine: Backend, name: str, files: InputFiles, needed: Collection[str] | None
) -> RawRows:
    """Reads files into tables of the engine whose names begin with `name`.

    Args:
      engine: where to.
      name: of the table that is made.
      files: of one format. Those of other formats than JSON must all have the needed columns.
      needed: columns that the spec names; None where it is to be found out which there are.

    Raises:
      ValueError: needed columns are missing, all of them named; or a file is empty or damaged.
    """
    readers = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json}
    check_whole(files)
    columns = readers[files.format](engine, name, files, None if needed is None else sorted(needed))
    return RawRows(engine.table(name), tuple(columns), files)


def unreadable(files: InputFiles, error: Exception) -> Exception:
    """The error of files that the engine cannot read, in one sentence.

    Args:
      files: that it was reading.
      error: one of `UNREADABLE_FILES`; itself, if what is missing is room.
    """
    if lacks_room(error):
        return error
    if "state machine" in str(error):
        return ValueError(
            f"Cannot read {files.title} ({files.listed()}). Received: lines that end in different "
            "ways, or quotes that CSV has not. Expected: one end of line in all of a file, as "
            "`sed -i 's/\\r$//' FILE` leaves it, and quotes doubled inside of quotes."
        )
    return ValueError(
        f"Cannot read {files.title} ({files.listed()}): {told(error)} Expected: whole files of "
        f"format {files.format}. They are damaged, or of another kind; write them again."
    )


def drop_rows(engine: Backend, name: str) -> None:
    """Removes what `read_rows` made in the engine, to give its disk back."""
    made = engine.raw_sql(f"""
        SELECT table_type, table_name FROM information_schema.tables
        WHERE starts_with(table_name, {_text(name)})
    """).fetchall()
    for kind, table in made:
        kind = "VIEW" if kind == "VIEW" else "TABLE"
        engine.raw_sql(f"DROP {kind} {_quoted(table)}")


def _read_csv(
    engine: Backend, name: str, files: InputFiles, needed: Sequence[str] | None
) -> list[str]:
    separator = "\t" if files.extension.startswith(".tsv") else ","
    same_header: dict[tuple[str, ...], list[pathlib.Path]] = {}
    for path in files.paths:
        header = read_header(path, separator)
        check_names(header, files.place(path), _RESERVED)
        check_needed(header, needed or (), files.place(path))
        same_header.setdefault(header, []).append(path)
    columns = list(dict.fromkeys(column for header in same_header for column in header))
    check_names(columns, files.title, _RESERVED)
    _create(engine, name, columns)
    options = f"header=true, delim='{separator}', quote='\"', escape='\"', strict_mode=true"
    for header, paths in same_header.items():
        places = [_place(columns.index(column)) for column in header]
        _insert_csv(engine, name, files, paths, places, options)
    _number_rows(engine, name, files, columns, header_lines=1)
    return columns


def _read_json(
    engine: Backend, name: str, files: InputFiles, needed: Sequence[str] | None
) -> list[str]:
    """Lines are read as CSV with one column, by which bad UTF-8 and long lines are found too."""
    lines = f"{name}_lines"
    _create(engine, lines, ["line"])
    # A control character never stands in a line of JSON.
    options = "header=false, delim='\x01', quote='', escape='', comment='', strict_mode=false"
    _insert_csv(engine, lines, files, files.paths, [_place(0)], options)
    _number_rows(engine, lines, files, ["line"], header_lines=0)

    is_object = "json_valid(line) AND json_type(line) = 'OBJECT'"
    checked = f"SELECT *, CASE WHEN {is_object} THEN line END AS object FROM {_quoted(lines)}"
    keys = engine.raw_sql(f"SELECT DISTINCT unnest(json_keys(object)) FROM ({checked})").fetchall()
    found = sorted(key for (key,) in keys)
    if needed is None:
        needed = found
    check_names(needed, files.title, _RESERVED)
    check_needed(found, needed, files.title)
    fields = json.dumps(dict.fromkeys(needed, "JSON"))
    engine.raw_sql(f"""
        CREATE OR REPLACE VIEW {_quoted(name)} AS
        SELECT unnest(json_transform(object, {_text(fields)})), {FILE}, {NUMBER},
          coalesce({TEXT}, line) AS {TEXT},
          CASE WHEN object IS NULL THEN coalesce({UNREADABLE}, 'row: not a JSON object') END
            AS {UNREADABLE}
        FROM ({checked}) WHERE line <> '' OR {UNREADABLE} IS NOT NULL
    """)
    return list(needed)


def _read_parquet(
    engine: Backend, name: str, files: InputFiles, needed: Sequence[str] | None
) -> list[str]:
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
    rows = ", ".join(f"rows.{_quoted(column)}" for column in columns)
    order = ", ".join(f"({_text(path)}, {i})" for i, path in enumerate(files.paths))
    engine.raw_sql(f"""
        CREATE OR REPLACE VIEW {_quoted(name)} AS
        SELECT {rows}, files.index AS {FILE}, rows.file_row_number + 1 AS {NUMBER},
          NULL::VARCHAR AS {TEXT}, NULL::VARCHAR AS {UNREADABLE}
        FROM read_parquet({_list(files.paths)}, union_by_name=true, filename={_text(FILE)},
          file_row_number=true, hive_partitioning=false) AS rows
        JOIN (VALUES {order}) AS files(path, index) ON rows.{FILE} = files.path
    """)
    return list(columns)


def _create(engine: Backend, name: str, columns: Sequence[str]) -> None:
    # Columns are numbered until they are read: no name of a log clashes with one used here.
    places = [_place(index) for index in range(len(columns))]
    types = ", ".join(f"{column} VARCHAR" for column in [*places, FILE])
    for suffix in ("errors", "scans"):
        engine.raw_sql(f"DROP TABLE IF EXISTS {_quoted(f'{name}_{suffix}')}")
    # Temporary tables are not compressed, which would cost more than all else that is done to text.
    engine.raw_sql(f"CREATE OR REPLACE TEMP TABLE {_quoted(f'{name}_read')} ({types})")


def _insert_csv(
    engine: Backend,
    name: str,
    files: InputFiles,
    paths: Sequence[pathlib.Path],
    places: Sequence[str],
    options: str,
) -> None:
    """Appends rows in the order of the files, and rows that cannot be read to two tables beside."""
    types = ", ".join(f"{_text(place)}: 'VARCHAR'" for place in places)
    try:
        engine.raw_sql(f"""
            INSERT INTO {_quoted(f"{name}_read")} BY NAME
            SELECT * FROM read_csv({_list(paths)}, auto_detect=false, {options},
              columns={{{types}}}, filename={_text(FILE)}, ignore_errors=true, store_rejects=true,
              rejects_limit=0, rejects_table={_text(f"{name}_errors")},
              rejects_scan={_text(f"{name}_scans")})
        """)
    except UNREADABLE_FILES as error:
        raise unreadable(files, error) from error


def _number_rows(
    engine: Backend, name: str, files: InputFiles, columns: Sequence[str], header_lines: int
) -> None:
    """Makes view `name` of rows that were read and rows that were not, both with their numbers.

    The engine keeps the order of rows (`rowid`) and numbers only those that it cannot read. So the
    number of a row is its place among those that were read, and one more for each that was not.
    """
    order = ", ".join(f"({_text(path)}, {i})" for i, path in enumerate(files.paths))
    reasons = " ".join(
        f"WHEN {_text(error)} THEN {_text(reason)}" for error, reason in _REASONS.items()
    )
    # One bad row may have several errors; the first is told.
    engine.raw_sql(f"""
        CREATE OR REPLACE TABLE {_quoted(f"{name}_unread")} AS
        SELECT index AS {FILE}, line - {header_lines} AS {NUMBER},
          row_number() OVER (PARTITION BY index ORDER BY line) AS skipped,
          trim(csv_line, chr(10) || chr(13)) AS {TEXT},
          'row: ' || CASE error_type::VARCHAR {reasons} ELSE lower(error_type::VARCHAR) END
            AS {UNREADABLE}
        FROM (
          SELECT file_path, line, first(csv_line ORDER BY column_idx) AS csv_line,
            first(error_type ORDER BY column_idx) AS error_type
          FROM {_quoted(f"{name}_errors")} JOIN {_quoted(f"{name}_scans")}
            USING (scan_id, file_id)
          GROUP BY ALL
        ) JOIN (VALUES {order}) AS files(file_path, index) USING (file_path)
    """)
    (unread,) = engine.raw_sql(f"SELECT count(*) FROM {_quoted(f'{name}_unread')}").fetchone()
    named = ", ".join(f"rows.{_place(i)}" for i in range(len(columns)))
    rows = f"""
        SELECT {named}, index AS {FILE}, rows.rowid - first AS {NUMBER}
        FROM {_quoted(f"{name}_read")} AS rows JOIN (
          SELECT {FILE}, min(rowid) AS first FROM {_quoted(f"{name}_read")} GROUP BY {FILE}
        ) USING ({FILE}) JOIN (VALUES {order}) AS files({FILE}, index) USING ({FILE})
    """
    skips = f"""
        SELECT {FILE}, {NUMBER} - skipped AS place, max(skipped) AS skipped
        FROM {_quoted(f"{name}_unread")} GROUP BY ALL
    """
    numbered = f"SELECT * REPLACE ({NUMBER} + 1 AS {NUMBER}) FROM ({rows})"
    if unread:
        numbered = f"""
            SELECT rows.* REPLACE (rows.{NUMBER} + 1 + coalesce(skips.skipped, 0) AS {NUMBER})
            FROM ({rows}) AS rows ASOF LEFT JOIN ({skips}) AS skips
              ON rows.{FILE} = skips.{FILE} AND rows.{NUMBER} >= skips.place
        """
    renamed = ", ".join(f"{_place(i)} AS {_quoted(name)}" for i, name in enumerate(columns))
    engine.raw_sql(f"""
        CREATE OR REPLACE VIEW {_quoted(name)} AS
        SELECT {renamed}, {FILE}, {NUMBER}, NULL::VARCHAR AS {TEXT},
          NULL::VARCHAR AS {UNREADABLE}
        FROM ({numbered})
        UNION ALL BY NAME
        SELECT {FILE}, {NUMBER}, {TEXT}, {UNREADABLE} FROM {_quoted(f"{name}_unread")}
    """)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(_quoted(column) for column in columns)


def _place(index: int) -> str:
    """What the column of this place is called while files are read."""
    return f"column{index}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str | pathlib.Path) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _list(paths: Iterable[pathlib.Path]) -> str:
    return f"[{', '.join(_text(path) for path in paths)}]"
