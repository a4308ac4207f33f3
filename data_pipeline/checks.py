"""Raw rows -> typed rows, each with the reasons why it must not be learned from, if there are any.

All reasons of a row are told, in the order of the spec's columns, joined by "; ".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.casts import EXPECTED, Cast, cast_column
from data_pipeline.csv_rows import FILE, NUMBER, REASON, TEXT
from data_pipeline.ingest import RawRows

RAW = "__raw"  # values of a bad row as text, in the order of the raw columns
TIME = "_time"  # microseconds since the epoch
SHOWN, CLICKED = "__shown", "__clicked"  # typed lists of a log that is exploded
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100, in seconds since the epoch
_REQUIRED = ("user", "item", "timestamp", "label", "weight")

_Faults = Iterator[tuple[ir.BooleanValue, str]]


@ibis.udf.scalar.builtin(signature=((dt.timestamp,), dt.int64))
def epoch_us(time: ir.TimestampValue) -> ir.IntegerValue:
    """Microseconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class _Checked:
    """Typed columns of a raw column, and what may be wrong with it."""

    values: dict[str, ir.Value]
    faults: list[tuple[ir.BooleanValue, str]]


def check_log(spec: ClickLogSpec, raw: RawRows) -> ir.Table:
    """The rows of the log in the types of the spec.

    Returns:
      FILE, NUMBER; REASON, TEXT and RAW (NULL for a good row); TIME, and the log's columns by
      their names. Those with role "ignore" are left as they are, except where the split or a side
      table needs them; those that are missing in the files are left out. With `spec.explode`,
      SHOWN and CLICKED stand in place of item, label and position.
    """
    keys = {key for _, key in table_keys(spec)}
    checked = []
    for column in log_columns(spec):
        if column.role != "ignore" or column in keys or column.name == spec.split.day_column:
            required = column.role in _REQUIRED or column.name == spec.split.day_column
            checked.append(_check(column, raw.table[column.source_name], required))
        elif column.source_name in raw.columns:
            checked.append(_Checked({column.name: raw.table[column.source_name]}, []))
    if spec.explode:
        checked.append(_check_lists(spec, raw.table))
    return _with_reasons(raw, checked)


def check_table(raw: RawRows, columns: Sequence[ColumnSpec], key: ColumnSpec) -> ir.Table:
    """The rows of a side table: as those of the log, without TIME, and with its key."""
    checked = [_check(column, raw.table[column.source_name], False) for column in columns]
    checked.append(_check(key, raw.table[key.source_name], True))
    return _with_reasons(raw, checked)


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


def _with_reasons(raw: RawRows, checked: Sequence[_Checked]) -> ir.Table:
    table = raw.table
    faults = [(c.fill_null(False), reason) for each in checked for c, reason in each.faults]
    is_bad = ibis.or_(*(condition for condition, _ in faults))
    told = ibis.array([ibis.ifelse(c, reason, ibis.null("string")) for c, reason in faults])
    reasons = ibis.ifelse(
        is_bad, told.filter(lambda reason: reason.notnull()).join("; "), ibis.null("string")
    )
    values = {name: value for each in checked for name, value in each.values.items()}
    reason = ibis.coalesce(table[REASON], reasons)
    at_hand = {f"{RAW}_{i}": table[name] for i, name in enumerate(raw.columns)}
    # A selection of its own: within this one the reasons would be found anew for each use.
    rows = table.select(FILE, NUMBER, TEXT, **{REASON: reason}, **at_hand, **values)
    texts = ibis.array([rows[name].cast("string") for name in at_hand])
    is_bad = rows[REASON].notnull()
    kept = {
        TEXT: ibis.ifelse(is_bad, rows[TEXT], ibis.null("string")),
        RAW: ibis.ifelse(is_bad, texts, ibis.null("array<string>")),
    }
    return rows.select(FILE, NUMBER, REASON, **kept, **{name: rows[name] for name in values})


def _check(column: ColumnSpec, raw: ir.Value, required: bool) -> _Checked:
    if column.role == "timestamp":
        return _check_timestamp(column, raw)
    cast = cast_column(column, raw)
    value, faults = cast.value, list(_cast_faults(column, cast, required))
    if column.role == "label":
        if column.positive_from is not None:
            value = value >= column.positive_from
        else:
            faults.append((~value.isin([0, 1]), f"{column.name}: not 0 or 1"))
        value = value.cast("int64")
    if column.role == "weight":
        faults.append((value < 0, f"{column.name}: negative"))
    return _Checked({column.name: value}, faults)


def _cast_faults(column: ColumnSpec, cast: Cast, required: bool) -> _Faults:
    name = column.source_name if column.name.startswith("_") else column.name
    yield cast.unreadable, f"{name}: {EXPECTED[column.type]}"
    if required:
        yield cast.value.isnull() & ~cast.unreadable, f"{name}: missing"


def _check_timestamp(column: ColumnSpec, raw: ir.Value) -> _Checked:
    """An epoch in the column's unit, or a time; without a zone it is in UTC."""
    unit = _PER_SECOND[column.unit]
    if raw.type().is_timestamp() or raw.type().is_date():
        time = epoch_us(raw.cast("timestamp"))
        value = time // (1_000_000 // unit) if column.type == "int" else raw.cast("string")
        faults = [(raw.isnull(), f"{column.name}: missing")]
    elif column.type == "int":
        value = cast_column(column, raw)
        faults = list(_cast_faults(column, value, required=True))
        value = value.value
        # An absurd number of seconds would not fit into 64 bits of microseconds.
        sane = ibis.ifelse(value.between(_EARLIEST * unit, _LATEST * unit), value, ibis.null())
        time = ibis.ifelse(value.isnull(), ibis.null("int64"), sane.fill_null(0)) * (
            1_000_000 // unit
        )
    else:
        value, _ = cast_column(column, raw)
        # A year has four digits: of others the engine fails, instead of finding no time.
        dated = ibis.ifelse(value.re_search(r"^\s*[0-9]{4}\D"), value, ibis.null("string"))
        time = epoch_us(dated.try_cast("timestamp('UTC')").cast("timestamp"))
        faults = [
            (value.isnull(), f"{column.name}: missing"),
            (value.notnull() & time.isnull(), f"{column.name}: not an ISO 8601 time"),
        ]
    in_range = time.between(_EARLIEST * 1_000_000, _LATEST * 1_000_000 - 1)
    if raw.type().is_timestamp() or raw.type().is_date():
        # A time that microseconds cannot count is NULL, and as far away.
        in_range = in_range.fill_null(raw.isnull())
    faults.append((~in_range, f"{column.name}: before 1990 or after 2099"))
    return _Checked({column.name: value, TIME: time}, faults)


def _check_lists(spec: ClickLogSpec, table: ir.Table) -> _Checked:
    """Shown and clicked items of a row."""
    values: dict[str, ir.Value] = {}
    faults: list[tuple[ir.BooleanValue, str]] = []
    for name, place in ((spec.explode.shown, SHOWN), (spec.explode.clicked, CLICKED)):
        column = ColumnSpec(
            name=name, type=spec.item.type, max_length=1, separator=spec.explode.separator
        )
        cast = cast_column(column, table[name])
        values[place] = cast.value
        faults += _cast_faults(column, cast, required=False)
    shown, clicked = values[SHOWN], values[CLICKED]
    is_empty = shown.length().fill_null(0) == 0
    stray = clicked.filter(lambda item: ~shown.contains(item)).length() > 0
    faults.append((is_empty & ~faults[0][0], f"{spec.explode.shown}: missing"))
    faults.append((stray & ~is_empty, f"{spec.explode.clicked}: not among {spec.explode.shown}"))
    return _Checked(values, faults)
