"""Files of a log -> the table of its impressions: checked, without duplicates, in order of time."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend

from clsd_tf.features import ROW, ClickLogSpec, ColumnSpec
from data_pipeline.checks import (
    RAW,
    TIME,
    check_log,
    check_table,
    needed_columns,
    table_keys,
)
from data_pipeline.counts import Counts
from data_pipeline.csv_rows import FILE, NUMBER, REASON, TEXT
from data_pipeline.days import DAY, of_days, with_day
from data_pipeline.engines import hand_over, keep_table
from data_pipeline.ingest import RawRows, drop_rows, read_rows
from data_pipeline.input_files import InputFiles, find_log, find_table
from data_pipeline.joins import (
    KEY,
    PLACE,
    check_key,
    drop_duplicates,
    explode_lists,
    join_table,
)
from data_pipeline.quarantine import count_bad_rows, too_many, write_quarantine

_RAW = "raw_"  # begins the names of tables that are dropped in the end


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load_impressions` returns.

    Attributes:
      impressions: the table, in the engine.
      counts: what became of the rows of the log's files.
      quarantined: reason -> bad rows of the log; those of side tables follow, as "table: reason".
      source: name and size of each file that was read.
    """

    impressions: ir.Table
    counts: Counts
    quarantined: dict[str, int]
    source: list[dict[str, str | int]]

    @property
    def rows_read(self) -> int:
        """Rows of the log's files, bad ones included."""
        return self.counts.rows_read

    @property
    def duplicates(self) -> int:
        """Impressions that were dropped because they equal an earlier one."""
        return self.counts.duplicates


def load_impressions(
    engine: Backend,
    spec: ClickLogSpec,
    inputs: str | pathlib.Path,
    output_dir: str | pathlib.Path,
    *,
    max_bad_fraction: float = 0.01,
    first_day: int | str | None = None,
    last_day: int | str | None = None,
    failed_quarantine: str | pathlib.Path | None = None,
    progress: Callable[[str], None] | None = None,
    into: BaseBackend | None = None,
) -> Loaded:
    """Loads the log that `spec` describes into table `impressions` of an engine.

    One row an impression: `_row` (int64, its place in the order of time, then file, then row),
    `_time` (int64 microseconds since the epoch), `_day` (string), and each source column whose role
    is not "ignore": int64, float64, string, or an array of int64 or string; NULL where missing.

    Args:
      engine: of `open_engine`, by which files are read and rows are checked.
      spec: of the log.
      inputs: a file, a glob, or a directory.
      output_dir: bad rows go to `quarantine/part-0.parquet` in it, those of a side table to
        `quarantine/<table>.parquet` if there are any.
      max_bad_fraction: the largest share of bad rows, of the log and of each side table.
      first_day: where the impressions begin, in values of the day column.
      last_day: where they end; this day is among them.
      failed_quarantine: where bad rows are kept if there are too many, by default
        `<output_dir>.quarantine.parquet`.
      progress: called with the name of each step as it begins.
      into: engine that does the rest and holds the table, by default `engine`.

    Raises:
      FileNotFoundError: the log or a side table has no files.
      BadRowsError: too many rows are bad.
      ValueError: files and spec do not fit, or nothing is left.
    """
    output_dir = pathlib.Path(output_dir)
    failed = pathlib.Path(
        failed_quarantine or output_dir.with_name(f"{output_dir.name}.quarantine.parquet")
    )
    into = engine if into is None else into
    loader = _Loader(engine, into, output_dir / "quarantine", failed, max_bad_fraction)
    begin = progress or (lambda step: None)

    files = find_log(inputs, spec.input.files, [table.file for table in spec.tables.values()])
    begin("Reading the log")
    rows = loader.load_log(spec, files)
    begin("Dropping duplicates")
    rows = explode_lists(spec, rows)
    shown = loader.good_rows if spec.explode is None else _count(into, rows)
    days = of_days(spec, rows, first_day, last_day)
    left_out = 0 if days is rows else shown - _count(into, days)
    rows, duplicates = drop_duplicates(into, spec, days, f"{_RAW}duplicates")
    places = (FILE, NUMBER, PLACE)
    order = ibis.row_number().over(order_by=[rows[c] for c in (TIME, *places)]).cast("int64")
    # Places are put in order, and not whole rows.
    numbers = keep_table(into, f"{_RAW}numbers", rows.select(*places, **{ROW: order}))
    for name, log_key in table_keys(spec):
        begin(f"Joining side table '{name}'")
        rows = loader.join(spec, files.directory, name, log_key, rows)

    begin("Ordering impressions")
    columns = [c.name for c in spec.source_columns if c.role != "ignore"]
    rows = with_day(spec, rows.inner_join(numbers, places)).select(TIME, DAY, *columns, ROW)
    impressions = keep_table(into, "impressions", rows)
    counts = Counts(
        rows_read=loader.rows_read,
        bad_rows=loader.rows_read - loader.good_rows,
        impressions=shown,
        duplicates=duplicates,
        left_out=left_out,
        kept=_count(into, impressions),
    )
    counts.check(exploded=spec.explode is not None)
    if not counts.kept:
        raise ValueError(
            f"No impression is left of {loader.rows_read:,} rows. Received: {counts.bad_rows:,} "
            f"bad rows, and {left_out:,} impressions outside of first_day = {first_day} to "
            f"last_day = {last_day}. Expected: good rows of these days; mend the log, the spec, or "
            "the days."
        )
    loader.drop_tables()
    return Loaded(impressions, counts, loader.quarantined, loader.source)


def _count(engine: BaseBackend, rows: ir.Table) -> int:
    return int(engine.to_pyarrow(rows.count()).as_py())


class _Loader:
    """Reads files, and keeps count of what was read and what went to the quarantine."""

    def __init__(
        self,
        engine: Backend,
        into: BaseBackend,
        quarantine: pathlib.Path,
        failed: pathlib.Path,
        limit: float,
    ):
        self._engine, self._into, self._quarantine, self._failed = engine, into, quarantine, failed
        self._limit = limit
        self.rows_read = self.good_rows = 0
        self.quarantined: dict[str, int] = {}
        self.source: list[dict[str, str | int]] = []

    def load_log(self, spec: ClickLogSpec, files: InputFiles) -> ir.Table:
        """Good rows of the log."""
        needed = needed_columns(spec)
        rows, bad = self._load("log", files, needed, lambda raw: check_log(spec, raw))
        self.quarantined |= bad
        self.good_rows = self.rows_read - sum(bad.values())
        return rows

    def join(
        self,
        spec: ClickLogSpec,
        directory: pathlib.Path,
        name: str,
        log_key: ColumnSpec,
        rows: ir.Table,
    ) -> ir.Table:
        """Rows with the columns of side table `name`."""
        key_name = spec.tables[name].key
        key = ColumnSpec(name=KEY, source=key_name, type=log_key.type, role="ignore")
        columns = [c for c in spec.source_columns if c.table == name and c.role != "ignore"]
        needed = {key_name, *(column.source_name for column in columns)}
        files = find_table(directory, name, spec.tables[name].file)
        table, bad = self._load(name, files, needed, lambda raw: check_table(raw, columns, key))
        check_key(self._into, name, key_name, table)
        self.quarantined |= {f"{name}: {reason}": count for reason, count in bad.items()}
        return join_table(rows, log_key, table, [column.name for column in columns])

    def drop_tables(self) -> None:
        """Removes what was read, when the impressions stand in a table of their own."""
        drop_rows(self._engine, _RAW)

    def _load(
        self,
        name: str,
        files: InputFiles,
        needed: set[str],
        check: Callable[[RawRows], ir.Table],
    ) -> tuple[ir.Table, dict[str, int]]:
        """Good rows, and reason -> number of bad rows, which go to the quarantine."""
        is_log = name == "log"
        table = f"{_RAW}{'' if is_log else 'table_'}{name}"
        checked = read_rows(self._engine, table, files, needed, check)
        self.source += files.sources()
        rows, bad = count_bad_rows(self._engine, checked.table)
        if is_log:
            self.rows_read = rows
            if not rows:
                raise ValueError(
                    f"The log has no rows. Received: {files.listed()}, with a header at most. "
                    "Expected: impressions; give the file that holds them."
                )
        failed = sum(bad.values()) > self._limit * rows
        path = self._quarantine / ("part-0.parquet" if is_log else f"{name}.parquet")
        path = self._failed if failed else path
        if bad or is_log:
            write_quarantine(self._engine, checked, path)
        if failed:
            raise too_many(files.title, rows, bad, self._limit, path)
        good = checked.table.filter(checked.table[REASON].isnull()).drop(REASON, TEXT, RAW)
        return hand_over(good, self._engine, self._into, f"{table}_good"), bad
