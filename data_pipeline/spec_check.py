"""A spec held against a log: all that would go wrong, or is odd, before anything is prepared."""

from __future__ import annotations

import collections
import difflib

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.checks import check_log, check_table, needed_columns, table_keys
from data_pipeline.column_profile import profile
from data_pipeline.csv_rows import FILE, NUMBER, REASON
from data_pipeline.days import DAY, with_day
from data_pipeline.engines import keep_table
from data_pipeline.ingest import RawRows
from data_pipeline.input_files import InputFiles, find_table
from data_pipeline.joins import KEY
from data_pipeline.log_sample import LogSample, raw_types, read_sample
from data_pipeline.spec_check_values import check_values
from data_pipeline.spec_findings import Finding, Level
from data_pipeline.spec_roles import Named, unit_of

# The share of bad rows that `clsd-prepare` lets pass.
_MAX_BAD = 0.01
_LEVELS = ("error", "warning", "note")


def check_against(
    engine: Backend, spec: ClickLogSpec, files: InputFiles, rows: int
) -> list[Finding]:
    """Holds a spec against a sample of about `rows` rows of its log.

    Returns:
      Findings, the worst first. With columns missing, these are all there is to say.

    Raises:
      ValueError, FileNotFoundError: files cannot be read, or are not there.
    """
    sample = read_sample(engine, files, rows)
    missing = _missing_columns(needed_columns(spec), sample.raw.columns, None)
    tables = {}
    for name, _ in table_keys(spec):
        found = find_table(files.directory, name, spec.tables[name].file)
        tables[name] = read_sample(engine, found, rows, f"table_{name}")
        wanted = {c.source_name for c in spec.source_columns if c.table == name}
        wanted = wanted - {c.source_name for c in spec.with_role("ignore")}
        wanted |= {spec.tables[name].key}
        missing += _missing_columns(wanted, tables[name].raw.columns, name)
    if missing:
        return missing
    raw = RawRows(sample.table, sample.raw.columns, files)
    checked = keep_table(engine, "checked", check_log(spec, raw))
    findings = _bad_rows(spec, sample, checked)
    for name, key in table_keys(spec):
        findings += _bad_table(spec, name, key, tables[name])
    good = checked.filter(checked[REASON].isnull())
    findings += _unread_columns(spec, sample)
    if spec.explode is None:
        findings += check_values(spec, sample, good)
    findings += _splits(spec, good)
    return sorted(findings, key=lambda finding: _LEVELS.index(finding.level))


def _missing_columns(
    needed: set[str], columns: tuple[str, ...], table: str | None
) -> list[Finding]:
    place = f"side table '{table}'" if table else "the log"
    findings = []
    for column in sorted(needed - set(columns)):
        close = difflib.get_close_matches(column, columns, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else f" It has: {', '.join(columns)}."
        findings.append(
            Finding(
                "error",
                column,
                "missing_column",
                f"It is not in {place}.{hint}",
                "",
                "Mend the name in the spec, set `source`, or leave the column out.",
            )
        )
    return findings


def _bad_rows(spec: ClickLogSpec, sample: LogSample, checked: ir.Table) -> list[Finding]:
    """What the quarantine of `clsd-prepare` would hold."""
    findings = []
    if sample.unreadable:
        findings.append(
            Finding(
                _level(sample.unreadable, sample.rows),
                None,
                "unreadable_rows",
                f"{sample.unreadable:,} of {sample.rows:,} rows do not have the columns of the "
                "header.",
                "They go to the quarantine.",
                "Look for broken quotes and separators.",
            )
        )
    findings += _reasons(checked, sample, {c.name: c for c in spec.source_columns}, "")
    return findings


def _bad_table(
    spec: ClickLogSpec, name: str, log_key: ColumnSpec, sample: LogSample
) -> list[Finding]:
    key = ColumnSpec(name=KEY, source=spec.tables[name].key, type=log_key.type, role="ignore")
    columns = [c for c in spec.source_columns if c.table == name and c.role != "ignore"]
    checked = check_table(RawRows(sample.table, sample.raw.columns, sample.raw.files), columns, key)
    by_name = {column.name: column for column in columns} | {key.source: key}
    findings = _reasons(checked, sample, by_name, f" of side table '{name}'")
    counts = sample.table.aggregate(
        rows=sample.table[key.source].count(), keys=sample.table[key.source].nunique()
    )
    (row,) = counts.to_pyarrow().to_pylist()
    if row["keys"] < row["rows"]:
        findings.append(
            Finding(
                "error",
                key.source,
                "repeated_key",
                f"The key of side table '{name}' has {row['keys']:,} values in {row['rows']:,} "
                "rows.",
                "A row of the log would be joined to several.",
                "Keep one row for each key.",
            )
        )
    return findings


def _reasons(
    checked: ir.Table, sample: LogSample, by_name: dict[str, ColumnSpec], place: str
) -> list[Finding]:
    bad = checked.filter(checked[REASON].notnull())
    counted = bad.group_by(reason=bad[REASON]).agg(rows=bad.count()).to_pyarrow().to_pylist()
    counts: collections.Counter[str] = collections.Counter()
    for row in counted:
        for reason in row["reason"].split("; "):
            counts[reason] += row["rows"]
    findings = []
    for reason, rows in counts.most_common():
        name, _, fault = reason.partition(": ")
        column = by_name.get(name)
        if column is None:  # of lists, or of the row
            findings.append(_bad(None, f"{reason}{place}", rows, sample.size, "", ""))
            continue
        rows_of = checked.filter(checked[REASON].contains(reason)).select(FILE, NUMBER)
        values = sample.table.join(rows_of, [FILE, NUMBER])[column.source_name].cast("string")
        examples = sample.table.join(rows_of, [FILE, NUMBER]).select(value=values)
        examples = examples.distinct().order_by("value").limit(3).to_pyarrow()["value"].to_pylist()
        shown = ", ".join("nothing" if v in (None, "") else repr(v) for v in examples)
        findings.append(
            _bad(
                name,
                f"{fault}{place}",
                rows,
                sample.size,
                f" Such as: {shown}." if shown else "",
                _mend(column, fault, sample),
            )
        )
    return findings


def _bad(
    column: str | None, fault: str, rows: int, total: int, examples: str, mend: str
) -> Finding:
    return Finding(
        _level(rows, total),
        column,
        "bad_rows",
        f"{rows:,} of {total:,} rows: {fault}.{examples}",
        "Such rows go to the quarantine; with more than 1 % of bad rows `clsd-prepare` stops."
        if rows <= _MAX_BAD * total
        else "With more than 1 % of bad rows `clsd-prepare` stops.",
        mend,
    )


def _level(rows: int, total: int) -> Level:
    return "error" if rows > _MAX_BAD * total else "warning"


def _mend(column: ColumnSpec, fault: str, sample: LogSample) -> str:
    if column.role == "timestamp" and fault.startswith("before 1990"):
        raw = raw_types(sample)[column.source_name]
        values = sample.table[column.source_name].cast("string").try_cast("int64")
        limits = sample.table.aggregate(low=values.min(), high=values.max())
        (found,) = limits.to_pyarrow().to_pylist()
        if found["low"] is not None:
            blank = pa.chunked_array([pa.array([found["low"], found["high"]], pa.int64())])
            named = Named(profile(column.name, "int", False, blank, 2, 2), raw)
            if (unit := unit_of(named)) is not None and unit != column.unit:
                return f'The values look like {unit}: set unit = "{unit}".'
    if fault == "not 0 or 1":
        return "A label is 0 or 1; of other numbers say with `positive_from` which are clicks."
    if fault.startswith("not "):
        return f'Mend the log, or the column\'s type (now "{column.type}").'
    if fault == "missing":
        return "Mend the log, or choose a column that is always there."
    return "Mend the log."


def _unread_columns(spec: ClickLogSpec, sample: LogSample) -> list[Finding]:
    named = {c.source_name for c in spec.source_columns if c.table is None}
    named |= {table.log_key or table.key for table in spec.tables.values()}
    if spec.explode:
        named |= {spec.explode.shown, spec.explode.clicked}
    others = [column for column in sample.raw.columns if column not in named]
    if not others:
        return []
    return [
        Finding(
            "note",
            None,
            "unread_columns",
            f"The spec does not name: {', '.join(others)}.",
            "They are not read.",
            "`clsd-spec draft` says what they look like.",
        )
    ]


def _splits(spec: ClickLogSpec, good: ir.Table) -> list[Finding]:
    if spec.split.by != "day":
        return []
    days = with_day(spec, good)
    counted = days.group_by(day=days[DAY]).agg(rows=ibis._.count()).order_by("day")
    rows = {row["day"]: row["rows"] for row in counted.to_pyarrow().to_pylist()}
    if not rows:
        return []
    limits = [str(day) for day in (spec.split.valid_from, spec.split.test_from)]
    first = str(spec.split.train_from) if spec.split.train_from is not None else ""
    sizes = {
        "train": sum(n for day, n in rows.items() if first <= day < limits[0]),
        "validation": sum(n for day, n in rows.items() if limits[0] <= day < limits[1]),
        "test": sum(n for day, n in rows.items() if limits[1] <= day),
    }
    levels: dict[str, Level] = {"train": "error", "validation": "warning", "test": "warning"}
    return [
        Finding(
            levels[name],
            None,
            "empty_split",
            f"There are no rows for {name}: the log has days {min(rows)} to {max(rows)}.",
            "Confidence, calibration and metrics need rows that were not trained on."
            if name != "train"
            else "There is nothing to learn from.",
            "Mend `valid_from` and `test_from` under [split].",
        )
        for name, size in sizes.items()
        if not size
    ]
