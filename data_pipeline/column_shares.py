"""What the values of each column are like, to be compared with those of another day.

Shares of missing and of unknown values, mean and deviation of numbers. The same numbers come of the
same rows, in whatever order and by however many threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.casts import bounded
from data_pipeline.exact_moments import moments

Shares = dict[str, dict[str, float]]
_LARGEST = 3.4e38  # of float32, which is what a model sees


def is_number(spec: ClickLogSpec, column: ColumnSpec) -> bool:
    """Whether a column is a quantity, and not a list or an id."""
    return spec.owner(column).encoding in ("numeric", "buckets") and not column.is_list


def column_shares(
    engine: Backend, rows: ir.Table, spec: ClickLogSpec, columns: Sequence[ColumnSpec]
) -> Shares:
    """Describes columns.

    Args:
      engine: that holds `rows`.
      rows: typed, NULL where a value is missing; at least one.
      spec: of the log.
      columns: to describe.

    Returns:
      Column -> `missing` (share of rows without a value, of lists without an element) and, of
      numbers, `mean` and `deviation` of those present.
    """
    missing = {c.name: _is_missing(rows, c).cast("int64").sum() for c in columns}
    found = _row(engine, rows.aggregate(_rows=rows.count(), **missing))
    total = found.pop("_rows")
    shares: Shares = {c.name: {"missing": found[c.name] / total} for c in columns}
    numbers = {c.name: _number(rows, c) for c in columns if is_number(spec, c)}
    for name, described in moments(rows, numbers).items():
        shares[name] |= described._asdict()
    return shares


def unknown_shares(
    engine: Backend, rows: ir.Table, columns: Sequence[ColumnSpec], known: Mapping[str, ir.Table]
) -> dict[str, float]:
    """Column -> share of its present values that are not among the known ones.

    Args:
      engine: that holds `rows`.
      rows: typed.
      columns: to look at; of lists every element counts.
      known: column -> table with the column `token`. Columns without are left out.
    """
    shares = {}
    for column in columns:
        if column.name not in known:
            continue
        values = rows[column.name].unnest() if column.is_list else rows[column.name]
        values = rows.select(value=values).drop_null("value")
        tokens = known[column.name].select("token").distinct()
        joined = values.left_join(tokens, values.value == tokens.token)
        found = _row(engine, joined.aggregate(n=joined.count(), known=joined.token.count()))
        if found["n"]:
            shares[column.name] = 1.0 - found["known"] / found["n"]
    return shares


def _is_missing(rows: ir.Table, column: ColumnSpec) -> ir.BooleanValue:
    values = rows[column.name]
    return values.length().fill_null(0) == 0 if column.is_list else values.isnull()


def _number(rows: ir.Table, column: ColumnSpec) -> ir.FloatingValue:
    return bounded(rows[column.name].cast("float64"), _LARGEST)


def _row(engine: Backend, table: ir.Table) -> dict:
    return engine.to_pyarrow(table).to_pylist()[0]
