"""Raw values of any file format -> int64, float64 or string, canonical and without guesses.

An id is 29, whether a file says 29, "29", "29.0" or 29.0. A missing value (nothing, an empty
string, NaN) is NULL. What cannot be read is NULL too, and `is_unreadable` tells the two apart.
"""

from __future__ import annotations

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from clsd_tf.features import ColumnSpec

EXPECTED = {"int": "not an integer", "float": "not a finite number", "string": "not a string"}
_INT_MISSING = -(2**63)
_DTYPES = {"int": "int64", "float": "float64", "string": "string"}


@ibis.udf.scalar.builtin
def json_extract_string(value: dt.JSON, path: str) -> str:
    """Text of a JSON value; a JSON string without its quotes."""


@ibis.udf.scalar.builtin
def json_type(value: dt.JSON) -> str:
    """ARRAY, DOUBLE, VARCHAR, ..."""


def cast_column(column: ColumnSpec, raw: ir.Value) -> ir.Value:
    """Raw values in the type of their column; lists for a column of lists."""
    if not column.is_list:
        return _cast_scalar(column.type, raw)
    values = _elements(column, raw).map(lambda element: _cast_scalar(column.type, element))
    return values.filter(lambda value: value.notnull())  # missing elements are left out


def is_unreadable(
    column: ColumnSpec, raw: ir.Value, value: ir.Value | None = None
) -> ir.BooleanValue:
    """Where there is something that cannot be read; a list is unreadable where an element is.

    Args:
      column: of the values.
      raw: what was to be read.
      value: what `cast_column` made of it, where that is a column already: reading is what costs.
    """
    if not column.is_list:
        value = cast_column(column, raw) if value is None else value
        return _is_unreadable(column.type, raw, value)
    stray = _elements(column, raw).filter(
        lambda element: _is_unreadable(column.type, element, _cast_scalar(column.type, element))
    )
    return (stray.length() > 0).fill_null(False)


def bounded(values: ir.NumericValue, largest: float) -> ir.FloatingValue:
    """Values that are not numbers between -`largest` and `largest` become the nearer one.

    What `clip` does, which takes DuckDB ten times as long.
    """
    is_within = values.between(-largest, largest)
    return ibis.ifelse(is_within, values, values.sign() * ibis.literal(largest))


def _cast_scalar(type_: str, raw: ir.Value) -> ir.Value:
    missing = ibis.null(_DTYPES[type_])
    if raw.type().is_nested():  # a list, or a record
        return missing
    if raw.type().is_json():
        value = _cast_scalar(type_, _json_scalar(raw))
        # A list or a record is no number as it is, but its text would be a string.
        return ibis.ifelse(_is_nested_json(raw), missing, value) if type_ == "string" else value
    if raw.type().is_binary():
        text = raw.cast("string")
        return ibis.ifelse(_is_ascii(text), _cast_scalar(type_, text), missing)
    if raw.type().is_floating():
        raw = ibis.ifelse(raw.isnan(), ibis.null(raw.type()), raw)
    return {"int": _to_int, "float": _to_float, "string": _to_string}[type_](raw)


def _is_unreadable(type_: str, raw: ir.Value, value: ir.Value) -> ir.BooleanValue:
    if raw.type().is_nested():
        return raw.notnull()
    if raw.type().is_json():
        unreadable = _is_unreadable(type_, _json_scalar(raw), value)
        return _is_nested_json(raw) | unreadable if type_ == "string" else unreadable
    if raw.type().is_binary():
        text = raw.cast("string")
        return ~_is_ascii(text) | _is_unreadable(type_, text, value)
    if raw.type().is_floating():
        present = ~raw.isnan()
    elif raw.type().is_string():
        present = raw.strip() != ""
        if type_ != "string":  # Python and pandas write missing numbers so
            present &= raw.strip().lower() != "nan"
    else:
        present = raw.notnull()
    # Whether a value is there is asked for the few alone that were not read.
    return ibis.ifelse(value.isnull(), present.fill_null(False), False)


def _is_nested_json(raw: ir.JSONValue) -> ir.BooleanValue:
    return json_type(raw).isin(["ARRAY", "OBJECT"]).fill_null(False)


def _is_ascii(text: ir.StringValue) -> ir.BooleanValue:
    """Whether bytes are text: others are printed by their numbers, as no value of another file."""
    return ~text.contains("\\x").fill_null(False)


def _elements(column: ColumnSpec, raw: ir.Value) -> ir.ArrayValue:
    if raw.type().is_json():
        text = json_extract_string(raw, "$")
        return ibis.ifelse(json_type(raw) == "ARRAY", raw, _split(column, text).cast("json")).cast(
            "array<json>"
        )
    return raw if raw.type().is_array() else _split(column, raw.cast("string"))


def _to_int(raw: ir.Value) -> ir.IntegerValue:
    type_ = raw.type()
    if type_.is_integer() or type_.is_boolean():
        value = raw.try_cast("int64")
    elif type_.is_floating() or type_.is_decimal():
        value = _whole(raw, raw.cast("float64"))
    elif type_.is_timestamp() or type_.is_date():
        return ibis.null("int64")
    else:
        text, plain = raw.cast("string"), raw.cast("string").try_cast("int64")
        other = ibis.coalesce(_whole(text, text.try_cast("float64")), _truth(text))
        # Nearly all integers are written as they are printed, which is quickly told.
        value = ibis.ifelse(plain.cast("string") == text, plain, _unless_grouped(text, other))
    return value.nullif(_INT_MISSING)


def _to_float(raw: ir.Value) -> ir.FloatingValue:
    type_ = raw.type()
    if type_.is_timestamp() or type_.is_date():
        return ibis.null("float64")
    if type_.is_numeric() or type_.is_boolean():
        number = raw.cast("float64") if type_.is_numeric() else raw.cast("int8").cast("float64")
    else:
        text = raw.cast("string")
        number = ibis.coalesce(text.try_cast("float64"), _truth(text).cast("float64"))
        number = _unless_grouped(text, number)
    return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)


def _to_string(raw: ir.Value) -> ir.StringValue:
    if raw.type().is_floating() or raw.type().is_decimal():
        return ibis.coalesce(_to_int(raw).cast("string"), raw.cast("string"))
    text = raw.cast("string")
    return ibis.ifelse(text.strip() == "", ibis.null("string"), text)


def _unless_grouped(text: ir.StringValue, value: ir.NumericValue) -> ir.NumericValue:
    """NULL where the text groups digits as programs do: the engine would take 1_000 for 1000."""
    return ibis.ifelse(text.contains("_"), ibis.null(value.type()), value)


def _truth(text: ir.StringValue) -> ir.IntegerValue:
    """Booleans as they are written in text."""
    lowered = text.strip().lower()
    return ibis.cases((lowered == "true", 1), (lowered == "false", 0)).cast("int64")


def _whole(raw: ir.Value, number: ir.FloatingValue) -> ir.IntegerValue:
    """Integers; NULL where a cast of `raw` would have rounded, as 29.5."""
    rounded = raw.try_cast("int64")
    return ibis.ifelse(rounded.cast("float64") == number, rounded, ibis.null("int64"))


def _split(column: ColumnSpec, text: ir.StringValue) -> ir.ArrayValue:
    return ibis.ifelse(text.strip() == "", ibis.null("array<string>"), text.split(column.separator))


def _json_scalar(raw: ir.JSONValue) -> ir.StringValue:
    """The text of a JSON value, of a number in the form that it has in other files."""
    text = json_extract_string(raw, "$")
    return ibis.ifelse(json_type(raw) == "DOUBLE", _to_string(text.try_cast("float64")), text)
