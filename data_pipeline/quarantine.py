"""Bad rows: kept as they were read, counted by reason, and too many of them stop the work."""

from __future__ import annotations

import pathlib

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from data_pipeline.checks import RAW
from data_pipeline.csv_rows import FILE, NUMBER, REASON, TEXT
from data_pipeline.ingest import RawRows

_OWN = ("reason", "file", "row", "text")
_NUM_TOLD = 3


class BadRowsError(ValueError):
    """More bad rows than a log may have."""


def count_bad_rows(engine: Backend, checked: ir.Table) -> tuple[int, dict[str, int]]:
    """Number of rows, and of bad ones by reason, the most frequent first."""
    counts = checked.group_by(REASON).aggregate(rows=checked.count())
    counts = engine.to_pyarrow(counts).to_pylist()
    bad = {row[REASON]: row["rows"] for row in counts if row[REASON] is not None}
    by_count = sorted(bad.items(), key=lambda item: (-item[1], item[0]))
    return sum(row["rows"] for row in counts), dict(by_count)


def write_quarantine(engine: Backend, checked: RawRows, path: str | pathlib.Path) -> None:
    """Writes the bad rows to a Parquet file, in the order of the files.

    Columns: the raw ones as text; `reason`; `file` and `row`, where it stands (rows count from 1);
    `text`, the whole row where its columns could not be told apart, and for JSON lines always. A
    raw column with one of these names gets a `_` at its end.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = checked.table.filter(checked.table[REASON].notnull()).order_by(FILE, NUMBER)
    names = [checked.files.name(path) for path in checked.files.paths]
    columns = {
        f"{name}_" if name in _OWN else name: rows[RAW][i] for i, name in enumerate(checked.columns)
    }
    file = ibis.array(names)[rows[FILE]]
    own = dict(zip(_OWN, (rows[REASON], file, rows[NUMBER], rows[TEXT]), strict=True))
    engine.to_parquet(rows.select(**columns, **own), path)


def too_many(
    what: str, rows: int, bad: dict[str, int], max_bad_fraction: float, path: str | pathlib.Path
) -> BadRowsError:
    """The error that names the most frequent reasons, and the file where the rows can be seen."""
    count = sum(bad.values())
    told = ", ".join(f"'{reason}' ({n:,})" for reason, n in list(bad.items())[:_NUM_TOLD])
    return BadRowsError(
        f"{count:,} of {rows:,} rows of {what} are bad ({count / rows:.1%}), more than "
        f"max_bad_fraction = {max_bad_fraction:g}. Most frequent reasons: {told}. They can be seen "
        f"in {path}. Mend the log or the spec, or allow more bad rows."
    )
