"""How embedding tables are stored in an export: in half precision, without untouched rows.

    storage = TableStorage("float16", rows_touched(initial, trained))
    export_model(model, encoder, "served/click_model", storage=storage)

Only what is read of a table changes: its rows are found through an index, and cast to float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.embeddings import embeddings_of
from clsd_tf.table_rows import read_rows

StorageType = Literal["float32", "float16", "bfloat16"]
STORAGE_TYPES: tuple[StorageType, ...] = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TableStorage:
    """What is kept of the tables of a backbone's `FusedEmbedding` layers.

    Attributes:
      dtype: of the stored values.
      touched: bool [rows] for each table (see `embedding_tables`), whether training has changed the
        row; None keeps all rows. Rows that it has not changed are noise of the initializer: they
        are left out, and an id that leads to one is given zeros.
    """

    dtype: StorageType = "float32"
    touched: Sequence[np.ndarray] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the tables are stored as they are."""
        return self.dtype == "float32" and self.touched is None


def embedding_tables(layer: keras.layers.Layer) -> list[tf.Variable]:
    """The tables of all `FusedEmbedding` layers in `layer`."""
    return [table for embedding in embeddings_of(layer) for table in embedding.embedding_variables]


def rows_touched(
    initial: keras.layers.Layer, trained: keras.layers.Layer
) -> tuple[np.ndarray, ...]:
    """Which rows of the tables differ between two backbones of the same architecture.

    Args:
      initial: with the weights that training began with.
      trained: with those that it ended with.

    Raises:
      ValueError: the tables are of other shapes.
    """
    pairs = list(zip(embedding_tables(initial), embedding_tables(trained), strict=True))
    for before, after in pairs:
        if before.shape != after.shape:
            raise ValueError(
                "The backbones must have tables of the same shapes. Received: "
                f"{tuple(before.shape)} and {tuple(after.shape)}."
            )
    return tuple(np.any(before.numpy() != after.numpy(), axis=1) for before, after in pairs)


@contextlib.contextmanager
def stored_tables(
    backbone: keras.layers.Layer, storage: TableStorage
) -> Iterator[list[tf.Variable]]:
    """Within, `backbone` reads its tables in the form of `storage`.

    Yields:
      The variables that take the place of `backbone.weights`.

    Raises:
      ValueError: the backbone has no `FusedEmbedding`, a value is too large for the type, or
        `touched` does not fit the tables.
    """
    weights = list(backbone.weights)
    if storage.is_plain:
        yield weights
        return
    layers, tables = embeddings_of(backbone), embedding_tables(backbone)
    if not tables:
        raise ValueError(
            f"Tables can be stored otherwise only where a `clsd_tf.FusedEmbedding` holds them. "
            f"Received: {backbone.name!r} without one. Export it with the default storage."
        )
    touched = [None] * len(tables) if storage.touched is None else list(storage.touched)
    if len(touched) != len(tables):
        raise ValueError(
            f"`touched` needs an array for each table. Received: {len(touched)} for {len(tables)}."
        )
    compact = {
        table.ref(): _CompactTable(table.numpy(), storage.dtype, rows)
        for table, rows in zip(tables, touched, strict=True)
    }
    for layer in layers:
        by_dim = {t.shape[1]: compact[t.ref()] for t in layer.embedding_variables}
        layer.lookup = functools.partial(_read, by_dim, layer.compute_dtype)  # type: ignore
    try:
        kept = [weight for weight in weights if weight.ref() not in compact]
        yield kept + [variable for table in compact.values() for variable in table.variables]
    finally:
        for layer in layers:
            del layer.lookup  # the method of its class is seen again


def _read(
    tables: Mapping[int, _CompactTable], dtype: tf.DType, dim: int, rows: tf.Tensor
) -> tf.Tensor:
    """What `FusedEmbedding.lookup` gives, under mixed precision too."""
    return tf.cast(tables[dim](rows), dtype)


class _CompactTable(tf.Module):
    """A table of fewer bytes that is read like the one it was made of."""

    def __init__(self, table: np.ndarray, dtype: StorageType, touched: np.ndarray | None):
        super().__init__(name="compact_table")
        self._places = None
        if touched is not None:
            if touched.shape != table.shape[:1]:
                raise ValueError(
                    f"`touched` must say of each row whether it is kept. Received: shape "
                    f"{touched.shape} for a table of {len(table)} rows."
                )
            places = np.where(touched, np.cumsum(touched), 0).astype(np.int32)
            self._places = tf.Variable(places, trainable=False, name="places")
            table = np.concatenate([np.zeros_like(table[:1]), table[touched]])
        values = tf.cast(table, dtype)
        if not np.isfinite(tf.cast(values, tf.float32).numpy()).all():
            raise ValueError(
                f"A table holds values that {dtype} does not. Received: {np.abs(table).max():.3g}. "
                "Store it as bfloat16 or float32."
            )
        self._values = tf.Variable(values, trainable=False, name="values")

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """float32, the shape of `rows` and then [dim]."""
        if self._places is not None:
            rows = read_rows(self._places, rows)
        return tf.cast(read_rows(self._values, rows), tf.float32)
