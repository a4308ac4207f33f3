"""A column's values as the encoder gets them: defaults filled in, lists cut, floats rounded."""

from __future__ import annotations

import ibis.expr.types as ir

from clsd_tf.encoding import missing_value
from clsd_tf.features import ColumnSpec
from data_pipeline.casts import bounded
from data_pipeline.splits import SPLIT

_MAX_FLOAT32 = 3.4028234663852886e38


def column_values(rows: ir.Table, column: ColumnSpec) -> ir.Table:
    """`_split` and `value` of each value that is present; of a list, each element that is kept.

    A missing value that the column has a default for counts as that default.
    """
    if not column.is_list:
        return rows.select(rows[SPLIT], value=present_value(rows, column)).drop_null("value")
    values, length = rows[column.name], column.max_length
    values = (values[:length] if column.keep == "first" else values[-length:]).unnest()
    values = rows.select(rows[SPLIT], value=values)
    return values.mutate(value=_filled(values.value, column)).drop_null("value")


def present_value(rows: ir.Table, column: ColumnSpec) -> ir.Value:
    """A column's value, or its default; NULL where there is neither. Not of lists."""
    return _filled(rows[column.name], column)


def _filled(value: ir.Value, column: ColumnSpec) -> ir.Value:
    default = column.default
    # A default that means "missing" itself, such as "", fills nothing; NaN does not equal itself.
    if default is not None and default == default and default != missing_value(column):
        return value.fill_null(default)
    return value


def as_float32(values: ir.NumericValue, column: ColumnSpec) -> ir.FloatingValue:
    """Values of a number column rounded to float32; larger ones become the largest float32."""
    if column.type == "float":
        values = bounded(values, _MAX_FLOAT32)
    return values.cast("float32")
