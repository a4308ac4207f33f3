"""The number of each row's user group, given by the encoder itself."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import tensorflow as tf
from ibis.backends import BaseBackend

from clsd_tf.encoding import Encoder, missing_value, raw_dtype
from clsd_tf.features import GROUP

_NUMBERS = "group_numbers"


def add_group(engine: BaseBackend, rows: ir.Table, encoder: Encoder) -> ir.Table:
    """Adds `_group`, int64 in `[0, encoder.num_groups)`; 0 for a log without groups.

    Each distinct value is encoded once and joined back, so that no engine has to number groups a
    second time in its own way.
    """
    column = encoder.spec.group
    if column is None:
        return rows.mutate(**{GROUP: ibis.literal(0, "int64")})

    def encode(values: object) -> np.ndarray:
        return encoder.encode_group(tf.constant(values, raw_dtype(column))).numpy()

    # Names that begin with `_` cannot clash with those of a log.
    values = rows[column.name]
    present = rows.select(value=values).distinct().drop_null("value")
    distinct = present.to_pyarrow()["value"].combine_chunks()
    table = pa.table(
        {"_value": distinct, "_number": encode(distinct.to_numpy(zero_copy_only=False))}
    )
    numbers = engine.create_table(_NUMBERS, ibis.memtable(table))
    number = numbers["_number"].fill_null(int(encode(missing_value(column)))).name(GROUP)
    return rows.left_join(numbers, values == numbers["_value"]).select(rows, number)
