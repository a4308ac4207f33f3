"""Results that are too large for memory, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend


def record_batches(
    engine: Backend, table: ir.Table, batch_rows: int = 65536
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of an expression over stored tables, in its order.

    The engine must not be asked for anything else until the last batch was taken.
    """
    # Ibis's own `to_pyarrow_batches` calls what DuckDB has deprecated.
    yield from engine.raw_sql(engine.compile(table)).to_arrow_reader(batch_rows)
