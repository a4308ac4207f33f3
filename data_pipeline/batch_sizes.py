"""How many batches a share of the rows makes, and of how many rows each is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from data_pipeline.sharing import ShardPart


def num_batches_of(share: Sequence[ShardPart], batch_size: int, drop_remainder: bool) -> int:
    """Batches of a share of the rows. Raises ValueError for a size below 1."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: {batch_size}.")
    rows = sum(part.rows for part in share)
    return rows // batch_size if drop_remainder else math.ceil(rows / batch_size)


def even_sizes(share: Sequence[ShardPart], num_batches: int, drop_remainder: bool) -> list[int]:
    """Rows of each batch; those without any are left out."""
    if num_batches < 1 or drop_remainder:
        raise ValueError(
            "`num_batches` must be >= 1, and divides all rows. Received: "
            f"num_batches={num_batches}, drop_remainder={drop_remainder}."
        )
    size, larger = divmod(sum(part.rows for part in share), num_batches)
    sizes = [size + 1] * larger + [size] * (num_batches - larger)
    return [rows for rows in sizes if rows]


def empty_batches(windows: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Batches without rows, of the columns of `windows`."""
    empty = tf.nest.map_structure(
        lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), windows.element_spec
    )
    return tf.data.Dataset.from_tensors(empty).repeat(count)
