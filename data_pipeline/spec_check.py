"""A spec held against a log: all that would go wrong, or is odd, before anything is prepared."""

from __future__ import annotations

import collections
import difflib
import math

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.checks import REASON, check_log, check_table, needed_columns, table_keys
from data_pipeline.column_profile import profile
from data_pipeline.days import DAY, with_day
from data_pipeline.engines import keep_table
from data_pipeline.ingest import FILE, NUMBER, RawRows
from data_pipeline.input_files import InputFiles, find_table
from data_pipeline.joins import KEY
from data_pipeline.log_profile import evidence_of
from data_pipeline.log_sample import LogSample, distinct_counts, raw_types, read_sample
from data_pipeline.spec_findings import Evidence, Finding, Level, findings_of
from data_pipeline.spec_roles import Named, unit_of

_MODEL_ROLES = ("feature", "user", "item", "group")
# The share of bad rows that `clsd-prepare` lets pass.
_MAX_BAD = 0.01
_UNKNOWN = 0.05
_MIN_GROUP_CLICKS = 200
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
        findings += _values(spec, sample, good)
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


def _values(spec: ClickLogSpec, sample: LogSample, good: ir.Table) -> list[Finding]:
    """What the values of good rows say."""
    columns = [c for c in spec.source_columns if c.table is None and c.name in good.columns]
    columns = [c for c in columns if c.role not in ("ignore", "timestamp")]
    table = good.order_by(FILE, NUMBER).select(*(c.name for c in columns)).to_pyarrow()
    if not table.num_rows:
        return []
    clicks = table[spec.label.name].cast(pa.float64()).to_numpy()
    findings = _of_label(spec, clicks)
    raw, distinct = raw_types(sample), distinct_counts(sample)
    users, items = table[spec.user.name], table[spec.item.name]
    for column in columns:
        if column.role == "label":
            continue
        values = table[column.name]
        found = distinct[column.source_name]
        named = Named(
            profile(column.name, column.type, column.is_list, values, found, sample.rows),
            raw[column.source_name],
        )
        evidence = evidence_of(named, values, clicks, users, items)
        findings += _of_column(column, evidence)
        findings += _of_encoding(column, evidence, values, whole=sample.size == sample.rows)
        if column.role == "group":
            findings += _of_group(column, evidence, values, clicks)
    return findings


def _of_label(spec: ClickLogSpec, clicks: np.ndarray) -> list[Finding]:
    rate, name = float(clicks.mean()), spec.label.name
    if rate in (0.0, 1.0):
        what = f"All rows are {'clicks' if rate else 'no clicks'}."
        mend = "Log impressions that were not clicked too, or mend `positive_from`."
        return [Finding("error", name, "one_class", what, "There is nothing to tell apart.", mend)]
    if rate > 0.8:
        what = f"{rate:.1%} of the rows are clicks."
        why = "Impressions that were not clicked may be missing from the log."
        return [Finding("warning", name, "many_clicks", what, why, "")]
    return []


def _of_column(column: ColumnSpec, evidence: Evidence) -> list[Finding]:
    if column.role == "satisfaction":
        clicks, others = evidence.after_click
        if not math.isnan(clicks) and others > 0.5 * clicks:
            what = f"It has a value in {clicks:.1%} of clicks and {others:.1%} of other rows."
            why = "What is as common without a click may be known before it."
            return [Finding("note", column.name, "not_after_click", what, why, "")]
        return []
    if column.role not in _MODEL_ROLES:
        return []
    found = findings_of(evidence)
    if column.role in ("user", "item"):
        # An id may tell much, and how often it occurs is what encodings are for.
        found = [finding for finding in found if finding.code not in ("leak", "post_click")]
    if column.type == "string":
        found = [finding for finding in found if finding.code != "leading_zeros"]
    return found


def _of_encoding(
    column: ColumnSpec, evidence: Evidence, values: pa.ChunkedArray, *, whole: bool
) -> list[Finding]:
    profile_ = evidence.column
    elements = values.combine_chunks()
    elements = elements.flatten() if column.is_list else elements.drop_null()
    if not len(elements):
        return []
    if column.encoding == "identity":
        inside = pc.and_(pc.greater_equal(elements, 0), pc.less(elements, column.num_values))
        outside = 1 - pc.mean(inside).as_py()
        if outside > _UNKNOWN:
            return [
                Finding(
                    "warning",
                    column.name,
                    "outside_identity",
                    f"{outside:.1%} of the values are not in 0 to {column.num_values - 1}; the "
                    f"largest is {profile_.high:g}.",
                    "They all count as 'other'.",
                    f'Set num_values = {int(profile_.high) + 1}, or encoding = "vocabulary".',
                )
            ]
    if column.encoding == "vocabulary" and column.min_count > 1 and whole:
        counts = pc.value_counts(elements).field("counts")
        rare = pc.sum(pc.filter(counts, pc.less(counts, column.min_count))).as_py() or 0
        if rare > _UNKNOWN * len(elements):
            return [
                Finding(
                    "note",
                    column.name,
                    "rare_values",
                    f"{rare / len(elements):.1%} of the values occur less than "
                    f"min_count = {column.min_count} times.",
                    "They share the id of unknown values.",
                    "Lower `min_count`, or leave it: what is that rare teaches little.",
                )
            ]
    if column.encoding == "hash" and profile_.distinct_in_log > column.num_buckets:
        return [
            Finding(
                "warning",
                column.name,
                "full_hash",
                f"About {profile_.distinct_in_log:,} values share {column.num_buckets:,} buckets.",
                "Most of them get the embedding of another value too.",
                f"Set num_buckets to {2 * profile_.distinct_in_log:,} or more.",
            )
        ]
    return []


def _of_group(
    column: ColumnSpec, evidence: Evidence, values: pa.ChunkedArray, clicks: np.ndarray
) -> list[Finding]:
    findings = []
    if not evidence.of_user:
        what = "Users change it from row to row."
        why = "A group is what is known of a user before the training window."
        findings.append(Finding("warning", column.name, "changing_group", what, why, ""))
    if column.encoding in ("identity", "vocabulary"):
        table = pa.table({"group": values, "click": clicks})
        sums = table.group_by("group").aggregate([("click", "sum")])
        small = sums.filter(pc.less(sums["click_sum"], _MIN_GROUP_CLICKS))
        if small.num_rows:
            names = ", ".join(str(v) for v in small["group"].to_pylist()[:5])
            findings.append(
                Finding(
                    "note",
                    column.name,
                    "small_groups",
                    f"{small.num_rows} groups have less than {_MIN_GROUP_CLICKS} clicks: {names}.",
                    "Their confidence is drawn towards that of all.",
                    "",
                )
            )
    return findings


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
