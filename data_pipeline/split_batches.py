"""The rows of a split in their final order, as Arrow batches for the shard writer."""

from __future__ import annotations

from collections.abc import Iterator

import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from clsd_tf.features import ROW, ClickLogSpec, Role
from data_pipeline.arrow_encoding import DAY
from data_pipeline.column_values import as_float32
from data_pipeline.hashing import hashed
from data_pipeline.history import END, LENGTH, ClickHistories
from data_pipeline.splits import SPLIT
from data_pipeline.streaming import record_batches


def split_batches(
    engine: BaseBackend,
    rows: ir.Table,
    histories: ClickHistories | None,
    spec: ClickLogSpec,
    split: str,
    seed: int,
) -> Iterator[pa.RecordBatch]:
    """Yields what `data_pipeline.shards.write_split` takes, never a whole split at once.

    Args:
      engine: that holds the tables.
      rows: with all columns but the click history.
      histories: see `data_pipeline.history`; None for a spec without `[history]`.
      spec: of the log.
      split: "train", in an order that is as good as random and depends on `seed` and `_row` alone;
        others by time.
      seed: of the order of training rows.
    """
    rows = rows.filter(rows[SPLIT] == split)
    place = [hashed("order", seed, rows[ROW])] if split == "train" else []
    columns = _columns(rows, spec)
    if histories is None:
        yield from record_batches(engine, rows.order_by([*place, ROW]).select(*columns))
        return
    # Of this split alone: memory may be short, and a join holds what it can of one of its tables.
    stretches = histories.stretches.filter(histories.stretches[SPLIT] == split).drop(SPLIT)
    rows = rows.left_join(stretches, ROW)
    columns += [rows[name].fill_null(0).name(name) for name in (END, LENGTH)]
    for batch in record_batches(engine, rows.order_by([*place, ROW]).select(*columns)):
        lists = histories.lists(*(batch.column(name).to_numpy() for name in (END, LENGTH)))
        batch = batch.drop_columns([END, LENGTH])
        yield batch.append_column(spec.history.name, lists)


def _columns(rows: ir.Table, spec: ClickLogSpec) -> list[ir.Value]:
    """The writer's columns; numbers that are float32 in a shard are float32 here."""
    roles: tuple[Role, ...] = ("user", "item", "timestamp", "label", "weight", "satisfaction")
    wanted = [*spec.encoded_columns, *(c for role in roles for c in spec.with_role(role))]
    columns = {ROW: rows[ROW], DAY: rows[DAY]}
    for column in wanted:
        if spec.history is not None and column.name == spec.history.name:
            continue
        value = rows[column.name]
        is_number = column.type == "float" and not column.is_list
        if is_number or column.role in ("weight", "satisfaction"):
            value = as_float32(value, column)
        columns[column.name] = value.name(column.name)
    return list(columns.values())
