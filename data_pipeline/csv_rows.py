"""Lines of text files -> rows in the engine, in their order, with the numbers that they have there.

Rows that cannot be told apart into columns are rows too, with their text and the reason.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Sequence

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from data_pipeline.engines import are_unreadable, keep_table, lacks_room, told
from data_pipeline.input_files import InputFiles

# Columns beside the raw ones: index of the file, number of the row in it (the first is 1), the
# whole row as text where its columns could not be told apart, and why the row cannot be used.
FILE, NUMBER, TEXT, REASON = OWN_COLUMNS = ("__file", "__number", "__text", "__reason")
_REASONS = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "broken quotes",
    "INVALID ENCODING": "not UTF-8",
    "LINE SIZE OVER MAXIMUM": "too long",
}
Kept = Callable[[ir.Table], ir.Table]


class CsvRows:
    """Reads files of lines into one table.

    Args:
      engine: where to.
      name: of the view that holds the rows in the end; tables beside it begin with it too.
      files: whose lines they are.
      columns: of all files.
      kept: what is kept of each row, of a table with `columns`, FILE, NUMBER (NULL until all
        rows are read), TEXT and REASON (NULL); these four are to be among it. None: all.
    """

    def __init__(
        self,
        engine: Backend,
        name: str,
        files: InputFiles,
        columns: Sequence[str],
        kept: Kept | None = None,
    ):
        self._engine, self._name, self._files = engine, name, files
        self._columns, self._kept, self._is_text = (
            columns,
            kept or (lambda rows: rows),
            kept is None,
        )
        self._stored: list[str] | None = None
        for suffix in ("errors", "scans"):
            engine.raw_sql(f"DROP TABLE IF EXISTS {quoted(f'{name}_{suffix}')}")

    def read(self, paths: Sequence[pathlib.Path], header: Sequence[str], options: str) -> None:
        """Appends the rows of files.

        Args:
          paths: in their order.
          header: the columns that these files have, in their order.
          options: how the engine tells columns apart.

        Raises:
          ValueError: a file is damaged.
        """
        rows = self._kept(self._engine.sql(self._scan(paths, header, options), schema=self._schema))
        # What is kept is called by its place: no name of a log is one that the engine uses itself.
        names = [column for column in rows.columns if column not in (FILE, NUMBER)]
        stored = rows.select(FILE, **{place(i): rows[name] for i, name in enumerate(names)})
        try:
            if self._stored is None:
                name = f"{self._name}_read"
                keep_table(self._engine, name, stored, temporary=self._is_text)
            else:
                self._engine.insert(f"{self._name}_read", stored)
        except duckdb.Error as error:
            raise unreadable(self._files, error) from error
        self._stored = names

    def number(self, header_lines: int) -> None:
        """Makes the view of rows that were read and rows that were not, both with their numbers.

        The engine keeps the order of rows (`rowid`) and numbers only those that it cannot read. So
        the number of a row is its place among those that were read, and one more for each that was
        not.
        """
        unread = self._unread(header_lines)
        read, left_out = quoted(f"{self._name}_read"), quoted(f"{self._name}_unread")
        renamed = ", ".join(f"{place(i)} AS {quoted(n)}" for i, n in enumerate(self._stored or ()))
        numbered = f"""
            SELECT rows.*, rows.rowid - first + 1 AS {NUMBER}
            FROM {read} AS rows JOIN (
              SELECT {FILE}, min(rowid) AS first FROM {read} GROUP BY {FILE}
            ) USING ({FILE})
        """
        if unread:
            numbered = f"""
                SELECT rows.* REPLACE (rows.{NUMBER} + coalesce(skips.skipped, 0) AS {NUMBER})
                FROM ({numbered}) AS rows ASOF LEFT JOIN (
                  SELECT {FILE}, {NUMBER} - skipped + 1 AS place, max(skipped) AS skipped
                  FROM {left_out} GROUP BY ALL
                ) AS skips ON rows.{FILE} = skips.{FILE} AND rows.{NUMBER} >= skips.place
            """
        self._engine.raw_sql(f"""
            CREATE OR REPLACE VIEW {quoted(self._name)} AS
            SELECT {FILE}, {NUMBER}, {renamed} FROM ({numbered})
            UNION ALL BY NAME
            SELECT {FILE}, {NUMBER}, {TEXT}, {REASON} FROM {left_out}
        """)

    def _scan(self, paths: Sequence[pathlib.Path], header: Sequence[str], options: str) -> str:
        types = ", ".join(f"'{place(i)}': 'VARCHAR'" for i in range(len(header)))
        at = {column: place(i) for i, column in enumerate(header)}
        named = ", ".join(f"{at.get(c, 'NULL::VARCHAR')} AS {quoted(c)}" for c in self._columns)
        files = ", ".join(str(self._files.paths.index(path)) for path in paths)
        return f"""
            SELECT {named}, ([{files}]::BIGINT[])[file_index::BIGINT + 1] AS {FILE},
              NULL::BIGINT AS {NUMBER}, NULL::VARCHAR AS {TEXT}, NULL::VARCHAR AS {REASON}
            FROM read_csv({listed(paths)}, auto_detect=false, {options},
              columns={{{types}}}, ignore_errors=true, store_rejects=true, rejects_limit=0,
              rejects_table={text(f"{self._name}_errors")},
              rejects_scan={text(f"{self._name}_scans")})
        """

    @property
    def _schema(self) -> ibis.Schema:
        own = {FILE: "int64", NUMBER: "int64", TEXT: "string", REASON: "string"}
        return ibis.schema(dict.fromkeys(self._columns, "string") | own)

    def _unread(self, header_lines: int) -> int:
        """Stores the rows that could not be read, and says how many there are."""
        reasons = " ".join(f"WHEN {text(e)} THEN {text(r)}" for e, r in _REASONS.items())
        order = ", ".join(f"({text(p)}, {i})" for i, p in enumerate(self._files.paths))
        table = quoted(f"{self._name}_unread")
        # One bad row may have several errors; the first is told.
        self._engine.raw_sql(f"""
            CREATE OR REPLACE TABLE {table} AS
            SELECT index::BIGINT AS {FILE}, (line - {header_lines})::BIGINT AS {NUMBER},
              row_number() OVER (PARTITION BY index ORDER BY line) AS skipped,
              trim(csv_line, chr(10) || chr(13)) AS {TEXT},
              'row: ' || CASE error_type::VARCHAR {reasons} ELSE lower(error_type::VARCHAR) END
                AS {REASON}
            FROM (
              SELECT file_path, line, first(csv_line ORDER BY column_idx) AS csv_line,
                first(error_type ORDER BY column_idx) AS error_type
              FROM {quoted(f"{self._name}_errors")} JOIN {quoted(f"{self._name}_scans")}
                USING (scan_id, file_id)
              GROUP BY ALL
            ) JOIN (VALUES {order}) AS files(file_path, index) USING (file_path)
        """)
        (count,) = self._engine.raw_sql(f"SELECT count(*) FROM {table}").fetchone()
        return count


def unreadable(files: InputFiles, error: duckdb.Error) -> Exception:
    """The error of files that the engine cannot read, in one sentence.

    Args:
      files: that it was reading.
      error: of the engine; itself, if what is missing is room, or the engine was asked wrongly.
    """
    if lacks_room(error) or not are_unreadable(error):
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


def place(index: int) -> str:
    """What a column is called by its place."""
    return f"column{index}"


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str | pathlib.Path) -> str:
    """A string in SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def listed(paths: Iterable[pathlib.Path]) -> str:
    """Paths in SQL."""
    return f"[{', '.join(map(text, paths))}]"
