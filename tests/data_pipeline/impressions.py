"""Small tables of impressions in an engine, as `load_impressions` leaves them."""

from __future__ import annotations

import random

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from clsd_tf.features import ClickLogSpec
from clsd_tf.spec import parse_spec

COLUMNS = """
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "int", encoding = "vocabulary" }
click = { role = "label", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""
BY_DAY = """
[split]
train_from = "2022-05-01"
valid_from = "2022-05-02"
test_from = "2022-05-03"
"""


def make_spec(sections: str = BY_DAY, columns: str = COLUMNS) -> ClickLogSpec:
    """A spec with these sections and columns."""
    return parse_spec(f'name = "small"\n{sections}\n[columns]\n{columns}')


def make_engine(threads: int = 2) -> Backend:
    """An engine in memory."""
    return ibis.duckdb.connect(threads=threads)


def store(engine: Backend, rows: list[dict], types: dict[str, pa.DataType] | None = None):
    """Stores rows as a new table; `types` of columns that cannot be inferred."""
    names = list(rows[0])
    inferred = pa.Table.from_pylist(rows).schema
    schema = pa.schema(
        [(name, (types or {}).get(name, inferred.field(name).type)) for name in names]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    return engine.create_table(ibis.util.gen_name("impressions"), ibis.memtable(table))


def random_rows(num_rows: int, seed: int, num_times: int = 12) -> list[dict]:
    """Impressions of few users at few times, so that ties are frequent; four days."""
    rng = random.Random(seed)
    times = sorted(rng.randrange(num_times) for _ in range(num_rows))
    return [
        {
            "_row": row,
            "_time": time,
            "_day": f"2022-05-0{time * 4 // num_times}",
            "user_id": rng.randrange(4),
            "item_id": rng.randrange(9),
            "click": rng.randrange(2),
            "time_ms": time,
        }
        for row, time in enumerate(times)
    ]


def rows_of(table: ir.Table, order_by: str = "_row") -> list[dict]:
    """The rows of an expression as dicts."""
    return table.order_by(order_by).to_pyarrow().to_pylist()
