"""Raw rows -> typed rows, each with the reasons why it must not be learned from, if there are any.

All reasons of a row are told, in the order of the spec's columns, joined by "; ".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.casts import EXPECTED, cast_column, is_unreadable
from data_pipeline.csv_rows import FILE, NUMBER, REASON, TEXT
from data_pipeline.ingest import RawRows

RAW = "__raw"  # values of a bad row as text, in the order of the raw columns
TIME = "_time"  # microseconds since the epoch
SHOWN, CLICKED = "__shown", "__clicked"  # typed lists of a log that is exploded
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100, in seconds since the epoch
_REQUIRED = ("user", "item", "timestamp", "label", "weight")

_Faults = Iterator[tuple[ir.BooleanValue, str]]
_RawColumn = Callable[[str], ir.Value]


@ibis.udf.scalar.builtin(signature=((dt.timestamp,), dt.int64))
def epoch_us(time: ir.TimestampValue) -> ir.IntegerValue:
    """Microseconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class _Check:
    """What becomes of a raw column.

    Attributes:
      values: typed columns by name, of the raw rows.
      faults: what may be wrong, of rows that have `values` by name; gets them, and how to find a
        raw column in them.
      labels: names of values that are kept as int64, when it is clear that they are 0 or 1.
    """

    values: dict[str, ir.Value]
    faults: Callable[[ir.Table, _RawColumn], _Faults] = lambda rows, raw: iter(())
    labels: tuple[str, ...] = ()


def check_log(spec: ClickLogSpec, raw: RawRows) -> ir.Table:
    """The rows of the log in the types of the spec.

    Returns:
      FILE, NUMBER; REASON, TEXT and RAW (NULL for a good row); TIME, and the log's columns by
      their names. Those with role "ignore" are left as they are, except where the split or a side
      table needs them; those that are missing in the files are left out. With `spec.explode`,
      SHOWN and CLICKED stand in place of item, label and position.
    """
    keys = {key for _, key in table_keys(spec)}
    checks = []
    for column in log_columns(spec):
        if column.role != "ignore" or column in keys or column.name == spec.split.day_column:
            required = column.role in _REQUIRED or column.name == spec.split.day_column
            checks.append(_check(column, raw.table[column.source_name], required))
        elif column.source_name in raw.columns:
            checks.append(_Check({column.name: raw.table[column.source_name]}))
    if spec.explode:
        checks.append(_check_lists(spec, raw.table))
    return _with_reasons(raw, checks)


def check_table(raw: RawRows, columns: Sequence[ColumnSpec], key: ColumnSpec) -> ir.Table:
    """The rows of a side table: as those of the log, without TIME, and with its key."""
    checks = [_check(column, raw.table[column.source_name], False) for column in columns]
    checks.append(_check(key, raw.table[key.source_name], True))
    return _with_reasons(raw, checks)


def log_columns(spec: ClickLogSpec) -> list[ColumnSpec]:
    """Columns that are read from the log's own files; explosion makes some that are not."""
    made = set()
    if spec.explode:
        made = {spec.item.name, spec.label.name, spec.explode.position}
    return [c for c in spec.source_columns if c.table is None and c.name not in made]


def table_keys(spec: ClickLogSpec) -> list[tuple[str, ColumnSpec]]:
    """Side table -> column of the log that holds its key."""
    by_source = {c.source_name: c for c in reversed(spec.source_columns) if c.table is None}
    return [(name, by_source[t.log_key or t.key]) for name, t in spec.tables.items()]


def needed_columns(spec: ClickLogSpec) -> set[str]:
    """Columns that the log's files must have."""
    keys = {key for _, key in table_keys(spec)}
    needed = {
        column.source_name
        for column in log_columns(spec)
        if column.role != "ignore" or column in keys or column.name == spec.split.day_column
    }
    return needed | ({spec.explode.shown, spec.explode.clicked} if spec.explode else set())


def _with_reasons(raw: RawRows, checks: Sequence[_Check]) -> ir.Table:
    """Values, then reasons, then what is kept for the quarantine, each a selection of its own.

    Within a single one, values and reasons would be computed anew for each use of them.
    """
    table = raw.table
    values = {name: value for check in checks for name, value in check.values.items()}
    places = {name: f"{RAW}_{i}" for i, name in enumerate(raw.columns)}
    at_hand = {place: table[name] for name, place in places.items()}
    rows = table.select(FILE, NUMBER, TEXT, REASON, **at_hand, **values)
    faults = [
        (condition.fill_null(False), reason)
        for check in checks
        for condition, reason in check.faults(rows, lambda name: rows[places[name]])
    ]
    is_bad = ibis.or_(*(condition for condition, _ in faults))
    told = ibis.array([ibis.ifelse(c, reason, ibis.null("string")) for c, reason in faults])
    reasons = ibis.ifelse(
        is_bad, told.filter(lambda reason: reason.notnull()).join("; "), ibis.null("string")
    )
    rows = rows.mutate(**{REASON: ibis.coalesce(rows[REASON], reasons)})
    is_bad = rows[REASON].notnull()
    texts = ibis.array([rows[place].cast("string") for place in at_hand])
    kept = {
        TEXT: ibis.ifelse(is_bad, rows[TEXT], ibis.null("string")),
        RAW: ibis.ifelse(is_bad, texts, ibis.null("array<string>")),
    }
    # What is too large for an integer is no label, and its row is bad.
    labels = {n: rows[n].try_cast("int64") for check in checks for n in check.labels}
    return rows.select(FILE, NUMBER, REASON, **kept, **{n: rows[n] for n in values} | labels)


def _check(column: ColumnSpec, raw: ir.Value, required: bool) -> _Check:
    if column.role == "timestamp":
        return _check_timestamp(column, raw)
    value = cast_column(column, raw)
    if column.role == "label" and column.positive_from is not None:
        value = value >= column.positive_from

    def faults(rows: ir.Table, raw: _RawColumn) -> _Faults:
        value = rows[column.name]
        yield from _cast_faults(column, raw(column.source_name), value, required)
        if column.role == "label" and column.positive_from is None:
            yield ~value.isin([0, 1]), f"{column.name}: not 0 or 1"
        if column.role == "weight":
            yield value < 0, f"{column.name}: negative"

    labels = (column.name,) if column.role == "label" else ()
    return _Check({column.name: value}, faults, labels)


def _cast_faults(column: ColumnSpec, raw: ir.Value, value: ir.Value, required: bool) -> _Faults:
    name = column.source_name if column.name.startswith("_") else column.name
    unreadable = is_unreadable(column, raw, value)
    yield unreadable, f"{name}: {EXPECTED[column.type]}"
    if required:
        yield value.isnull() & ~unreadable, f"{name}: missing"


def _check_timestamp(column: ColumnSpec, raw: ir.Value) -> _Check:
    """An epoch in the column's unit, or a time; without a zone it is in UTC."""
    unit = _PER_SECOND[column.unit]
    is_time = raw.type().is_timestamp() or raw.type().is_date()
    if is_time:
        time = epoch_us(raw.cast("timestamp"))
        value = time // (1_000_000 // unit) if column.type == "int" else raw.cast("string")
    elif column.type == "int":
        value = cast_column(column, raw)
        # An absurd number of seconds would not fit into 64 bits of microseconds.
        sane = ibis.ifelse(value.between(_EARLIEST * unit, _LATEST * unit), value, ibis.null())
        time = ibis.ifelse(value.isnull(), ibis.null("int64"), sane.fill_null(0)) * (
            1_000_000 // unit
        )
    else:
        value = cast_column(column, raw)
        # A year has four digits: of others the engine fails, instead of finding no time.
        dated = ibis.ifelse(value.re_search(r"^\s*[0-9]{4}\D"), value, ibis.null("string"))
        time = epoch_us(dated.try_cast("timestamp('UTC')").cast("timestamp"))

    def faults(rows: ir.Table, raw: _RawColumn) -> _Faults:
        source, value, time = raw(column.source_name), rows[column.name], rows[TIME]
        in_range = time.between(_EARLIEST * 1_000_000, _LATEST * 1_000_000 - 1)
        if is_time:
            yield source.isnull(), f"{column.name}: missing"
            # A time that microseconds cannot count is NULL, and as far away.
            in_range = in_range.fill_null(source.isnull())
        elif column.type == "int":
            yield from _cast_faults(column, source, value, required=True)
        else:
            yield value.isnull(), f"{column.name}: missing"
            yield value.notnull() & time.isnull(), f"{column.name}: not an ISO 8601 time"
        yield ~in_range, f"{column.name}: before 1990 or after 2099"

    return _Check({column.name: value, TIME: time}, faults)


def _check_lists(spec: ClickLogSpec, table: ir.Table) -> _Check:
    """Shown and clicked items of a row."""
    columns = {
        place: ColumnSpec(
            name=name, type=spec.item.type, max_length=1, separator=spec.explode.separator
        )
        for name, place in ((spec.explode.shown, SHOWN), (spec.explode.clicked, CLICKED))
    }

    def faults(rows: ir.Table, raw: _RawColumn) -> _Faults:
        for place, column in columns.items():
            yield from _cast_faults(column, raw(column.name), rows[place], required=False)
        shown, clicked = columns[SHOWN], rows[CLICKED]
        is_empty = rows[SHOWN].length().fill_null(0) == 0
        stray = clicked.filter(lambda item: ~rows[SHOWN].contains(item)).length() > 0
        unreadable = is_unreadable(shown, raw(shown.name), rows[SHOWN])
        yield is_empty & ~unreadable, f"{shown.name}: missing"
        yield stray & ~is_empty, f"{columns[CLICKED].name}: not among {shown.name}"

    return _Check({p: cast_column(c, table[c.name]) for p, c in columns.items()}, faults)
