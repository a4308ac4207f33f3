"""What changes rows as a whole: lists become impressions, duplicates go, side tables are joined."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.checks import CLICKED, SHOWN, TIME
from data_pipeline.csv_rows import FILE, NUMBER
from data_pipeline.engines import keep_table

PLACE = "__place"  # of an impression in the list that it was shown in
KEY = "__key"  # of a side table


def explode_lists(spec: ClickLogSpec, rows: ir.Table) -> ir.Table:
    """One row for each shown item: the item, the label, PLACE, and the declared position.

    Positions count from 0. Without `spec.explode`, PLACE is 0 and rows stay as they are.
    """
    if not spec.explode:
        return rows.mutate(**{PLACE: ibis.literal(0, "int64")})
    rows = rows.mutate(**{PLACE: ibis.range(0, rows[SHOWN].length()).unnest()})
    item = rows[SHOWN][rows[PLACE]]
    columns = {spec.item.name: item, spec.label.name: rows[CLICKED].contains(item)}
    columns[spec.label.name] = columns[spec.label.name].fill_null(False).cast("int64")
    if spec.explode.position:
        position = spec.column(spec.explode.position)
        types = {"int": "int64", "float": "float64", "string": "string"}
        columns[position.name] = rows[PLACE].cast(types[position.type])
    return rows.mutate(**columns).drop(SHOWN, CLICKED)


def drop_duplicates(
    engine: BaseBackend, spec: ClickLogSpec, rows: ir.Table, name: str
) -> tuple[ir.Table, int]:
    """Drops rows that equal an earlier one in all columns of the log that the spec names.

    Equal rows have the same user, item and time, so that only the few with these are compared.

    Returns:
      The other rows, and how many were dropped. Tables of the engine, whose names begin with
      `name`, hold the places of these.
    """
    few = [spec.user.name, spec.item.name, TIME]
    places = [FILE, NUMBER, PLACE]
    counts = rows.group_by(few).aggregate(rows=rows.count())
    # Stored: a statement that reads the rows twice would make a copy of them.
    repeats = keep_table(engine, f"{name}_repeats", counts.filter(counts["rows"] > 1).select(few))
    if not engine.to_pyarrow(repeats.count()).as_py():
        return rows, 0
    alike = rows.semi_join(repeats, few)
    columns = [column for column in alike.columns if column not in places]
    order = ibis.row_number().over(group_by=columns, order_by=places)
    repeated = alike.select(*places, order=order)
    repeated = repeated.filter(repeated["order"] > 0).drop("order")
    repeated = keep_table(engine, name, repeated)
    count = engine.to_pyarrow(repeated.count()).as_py()
    return (rows.anti_join(repeated, places) if count else rows), count


def check_key(engine: BaseBackend, name: str, key: str, table: ir.Table) -> None:
    """Raises ValueError, with an example, if a key stands in several rows of side table `name`."""
    counts = table.group_by(KEY).aggregate(rows=table.count())
    repeated = counts.filter(counts["rows"] > 1).order_by(KEY)
    examples = engine.to_pyarrow(repeated.limit(1)).to_pylist()
    if examples:
        raise ValueError(
            f"Side table '{name}' has several rows for the same '{key}'. Received: "
            f"{engine.to_pyarrow(repeated.count()).as_py():,} keys are repeated, such as "
            f"{examples[0]['rows']} rows with {key} = {examples[0][KEY]!r}. Expected: at most one "
            "row a key; remove the others."
        )


def join_table(rows: ir.Table, log_key: ColumnSpec, table: ir.Table, names: list[str]) -> ir.Table:
    """Adds the columns `names` of a side table; NULL where it has no row for a key."""
    table = table.select(KEY, *names)
    return rows.left_join(table, rows[log_key.name] == table[KEY]).drop(KEY)
