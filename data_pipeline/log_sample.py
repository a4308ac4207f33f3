"""A sample of a log's rows, and what type the values of each raw column have."""

from __future__ import annotations

import dataclasses
import functools

import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from clsd_tf.features import ColumnSpec, ScalarType
from data_pipeline.casts import cast_column, is_unreadable, json_extract_string, json_type
from data_pipeline.checks import epoch_us
from data_pipeline.csv_rows import FILE, NUMBER, REASON
from data_pipeline.engines import keep_table
from data_pipeline.ingest import RawRows, read_rows
from data_pipeline.input_files import InputFiles

# Rows are taken by a multiple of their number, which spreads them evenly over the files: the same
# rows each time, whatever the threads.
_PRIME, _STRIDE = 1_000_003, 618_033
# Between the elements of a list that is written as text, the least ambiguous first.
_SEPARATORS = ("|", ";", ",", " ")
_MOSTLY, _OFTEN = 0.98, 0.2


@dataclasses.dataclass(frozen=True)
class LogSample:
    """Rows of a log that are looked at.

    Attributes:
      raw: all rows, as they were read.
      table: sampled rows that could be read, with the columns of `raw`.
      rows: of all files.
      unreadable: rows whose columns could not be told apart.
    """

    raw: RawRows
    table: ir.Table
    rows: int
    unreadable: int

    @functools.cached_property
    def size(self) -> int:
        """Rows of the sample."""
        return self.table.count().to_pyarrow().as_py()


@dataclasses.dataclass(frozen=True)
class RawType:
    """What the values of a raw column look like.

    Attributes:
      type: "int", "float" or "string", of elements where it is a list.
      separator: of a list that is written as text; "" for an array; None where there is no list.
      is_time: whether the values are ISO 8601 times, or times of the file's own type.
      almost: "int" or "float" where nearly all values are numbers, but not all.
      strays: some of the values that are not.
      leading_zeros: whether numbers begin with zeros, as codes do ("007").
    """

    type: ScalarType
    separator: str | None = None
    is_time: bool = False
    almost: str | None = None
    strays: tuple[str, ...] = ()
    leading_zeros: bool = False

    @property
    def is_list(self) -> bool:
        """Whether a row holds several values."""
        return self.separator is not None


def read_sample(engine: Backend, files: InputFiles, rows: int, name: str = "log") -> LogSample:
    """Reads files and takes a sample.

    Args:
      engine: where to.
      files: of one format.
      rows: about as many are taken; all, if there are no more.
      name: of the tables that are made.

    Raises:
      ValueError: a file is damaged, or there are no rows.
    """
    raw = read_rows(engine, f"raw_{name}", files, None)
    counts = raw.table.aggregate(
        rows=raw.table.count(), unreadable=raw.table[REASON].notnull().sum()
    )
    total, unreadable = (int(v or 0) for v in counts.to_pyarrow().to_pylist()[0].values())
    if total == unreadable:
        raise ValueError(
            f"{files.listed()} has no rows that can be read. Received: {total:,} rows, "
            f"{unreadable:,} of them unreadable. Expected: a header and rows, as in the header."
        )
    table = raw.table.filter(raw.table[REASON].isnull())
    if total > rows:
        place = ((table[NUMBER] + table[FILE] * 7) * _STRIDE) % _PRIME
        table = table.filter(place < round(_PRIME * rows / total))
    return LogSample(raw, keep_table(engine, f"{name}_sample", table), total, unreadable)


def raw_types(sample: LogSample) -> dict[str, RawType]:
    """The type of each raw column, by its name."""
    measures: dict[str, ir.Value] = {}
    for i, column in enumerate(sample.raw.columns):
        measures |= {f"{i}_{key}": m for key, m in _measures(sample.table[column]).items()}
    (found,) = sample.table.aggregate(**measures).to_pyarrow().to_pylist()
    types = {}
    for i, column in enumerate(sample.raw.columns):
        prefix = f"{i}_"
        own = {k.removeprefix(prefix): v or 0 for k, v in found.items() if k.startswith(prefix)}
        types[column] = _decide(sample, column, own)
    return types


def typed_values(sample: LogSample, columns: dict[str, ColumnSpec]) -> pa.Table:
    """Values of raw columns in the types of their specs, NULL where missing or unreadable.

    Args:
      sample: of the log.
      columns: raw column -> its spec.
    """
    table = sample.table
    values = {raw: cast_column(spec, table[raw]) for raw, spec in columns.items()}
    return table.order_by(FILE, NUMBER).select(**values).to_pyarrow()


def times_of(sample: LogSample, column: str) -> pa.ChunkedArray:
    """Microseconds since the epoch of a column of times, NULL where one cannot be read."""
    raw = sample.table[column]
    if not (raw.type().is_timestamp() or raw.type().is_date()):
        raw = _text(raw).try_cast("timestamp('UTC')")
    times = sample.table.order_by(FILE, NUMBER).select(time=epoch_us(raw.cast("timestamp")))
    return times.to_pyarrow()["time"]


def _text(raw: ir.Value) -> ir.StringValue:
    return json_extract_string(raw, "$") if raw.type().is_json() else raw.cast("string")


def _measures(raw: ir.Value) -> dict[str, ir.Value]:
    """What is counted of a raw column."""
    type_ = raw.type()
    if type_.is_array():
        return {"present": raw.notnull().sum(), "arrays": raw.notnull().sum()}
    text = _text(raw)
    is_present = raw.notnull() & (text.strip() != "") & (text.strip().lower() != "nan")
    measures = {"present": is_present.sum()}
    for kind in ("int", "float"):
        column = ColumnSpec(name="c", type=kind, role="ignore")
        measures[f"bad_{kind}"] = is_unreadable(column, raw).sum()
    measures["zeros"] = text.strip().re_search("^0[0-9]+$").sum()
    if type_.is_timestamp() or type_.is_date():
        return measures | {"times": raw.notnull().sum()}
    measures["times"] = text.try_cast("timestamp('UTC')").notnull().sum()
    if type_.is_json():
        measures["arrays"] = (json_type(raw) == "ARRAY").sum()
    for place, separator in enumerate(_SEPARATORS):
        measures[f"with_{place}"] = text.strip().contains(separator).sum()
    return measures


def _decide(sample: LogSample, column: str, found: dict[str, int]) -> RawType:
    present = found["present"]
    if not present:
        return RawType("string")
    if found.get("arrays", 0) > _MOSTLY * present:
        return RawType(_element_type(sample, column, ""), separator="")
    zeros = found["zeros"] > 0
    if found["times"] >= _MOSTLY * present and found["bad_float"] > _OFTEN * present:
        return RawType("string", is_time=True)
    if not zeros:
        for kind in ("int", "float"):
            if not found[f"bad_{kind}"]:
                return RawType(kind)
        if found["bad_float"] <= (1 - _MOSTLY) * present:
            kind = "int" if found["bad_int"] == found["bad_float"] else "float"
            return RawType("string", almost=kind, strays=_strays(sample, column))
    for place, separator in enumerate(_SEPARATORS):
        if found.get(f"with_{place}", 0) >= _OFTEN * present:
            type_ = _element_type(sample, column, separator)
            if type_ == "int" or _repeats(sample, column, separator):
                return RawType(type_, separator=separator)
    return RawType("string", leading_zeros=zeros)


def _strays(sample: LogSample, column: str) -> tuple[str, ...]:
    raw = sample.table[column]
    is_stray = is_unreadable(ColumnSpec(name="c", type="float", role="ignore"), raw)
    strays = sample.table.filter(is_stray).select(value=_text(raw)).distinct().limit(3)
    return tuple(sorted(strays.to_pyarrow()["value"].to_pylist()))


def _list_spec(type_: ScalarType, separator: str) -> ColumnSpec:
    return ColumnSpec(name="c", type=type_, max_length=1, separator=separator or " ")


def _element_type(sample: LogSample, column: str, separator: str) -> ScalarType:
    """Elements are ids: integers, or text."""
    is_stray = is_unreadable(_list_spec("int", separator), sample.table[column])
    (bad,) = sample.table.aggregate(bad=is_stray.sum()).to_pyarrow()["bad"].to_pylist()
    return "string" if bad else "int"


def _repeats(sample: LogSample, column: str, separator: str) -> bool:
    """Whether elements occur again and again, as those of lists do, and words of titles less."""
    values = cast_column(_list_spec("string", separator), sample.table[column])
    elements = sample.table.select(whole=_text(sample.table[column]), value=values)
    counts = elements.aggregate(
        wholes=elements.whole.nunique(), longest=elements.value.length().max()
    )
    unnested = elements.select(value=elements.value.unnest())
    distinct = unnested.aggregate(elements=unnested.value.nunique())
    (row,) = counts.to_pyarrow().to_pylist()
    (elements_,) = distinct.to_pyarrow()["elements"].to_pylist()
    least = 0.2 if separator == " " else 0.5
    return bool(row["wholes"]) and elements_ <= least * row["wholes"] and row["longest"] <= 200


def distinct_counts(sample: LogSample) -> dict[str, int]:
    """About how many values each raw column has, of all rows and not of the sample alone."""
    table = sample.raw.table
    counts = {str(i): table[c].approx_nunique() for i, c in enumerate(sample.raw.columns)}
    (found,) = table.aggregate(**counts).to_pyarrow().to_pylist()
    return {c: int(found[str(i)]) for i, c in enumerate(sample.raw.columns)}
