"""Results that are too large for memory, batch by batch."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends import BaseBackend

from data_pipeline.engines import is_spark, work_directory


def record_batches(
    engine: BaseBackend, table: ir.Table, batch_rows: int = 65536
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of an expression over stored tables, in its order.

    The engine must not be asked for anything else until the last batch was taken.
    """
    if is_spark(engine):
        yield from _parts(engine, table, batch_rows)
        return
    # Ibis's own `to_pyarrow_batches` calls what DuckDB has deprecated.
    yield from engine.raw_sql(engine.compile(table)).to_arrow_reader(batch_rows)


def write_parquet(engine: BaseBackend, table: ir.Table, path: pathlib.Path) -> None:
    """Writes the rows of an expression to one Parquet file, in its order."""
    if not is_spark(engine):
        engine.to_parquet(table, path)
        return
    schema = table.schema().to_pyarrow()
    with pq.ParquetWriter(path, schema) as writer:
        for batch in record_batches(engine, table):
            writer.write_batch(batch.cast(schema))


def _parts(engine: BaseBackend, table: ir.Table, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Each partition of Spark writes a file of its own; their names are in the order of the rows.

    What Ibis offers takes the whole result through the memory of one process, as pandas.
    """
    with tempfile.TemporaryDirectory(dir=work_directory()) as place:
        directory = pathlib.Path(place) / "parts"
        engine.to_parquet_dir(table, directory)
        schema = table.schema().to_pyarrow()
        for path in sorted(directory.glob("part-*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(batch_rows):
                yield batch.cast(schema)
