"""Arrow batches of raw columns -> the arrays of a shard, by the encoding that the export uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from clsd_tf.encoding import Encoder, canonical, missing_value, shorten
from clsd_tf.features import GROUP, LABEL, ROW, USER, WEIGHT, ColumnSpec
from data_pipeline.manifest import ShardError
from data_pipeline.shard_format import stored_dtype

DAY = "_day"
_ARROW_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}
Observe = Callable[[ColumnSpec, np.ndarray], None]


def encode_table(
    table: pa.Table, encoder: Encoder, observe: Observe | None = None
) -> dict[str, np.ndarray]:
    """Encodes raw rows.

    Args:
      table: `_row`, the columns of `spec.encoded_columns`, user, label, weight and satisfaction
        columns by name; a null is a missing value.
      encoder: of the data set.
      observe: called with each encoded column and its ids or numbers.

    Returns:
      name of each feature of a shard -> `[rows]`, for lists `[rows, max_length]`.

    Raises:
      ShardError: a column is missing, a label is not 0 or 1, or a weight is not a number >= 0.
    """
    spec = encoder.spec
    encoded: dict[str, np.ndarray] = {}
    for column in spec.encoded_columns:
        if column.name not in encoded:
            values = _raw(table, column.name, column)
            encode = _encode_list if column.is_list else _encode_scalar
            encoded[column.name] = encode(column, values, encoder)
            if observe is not None:
                observe(column, encoded[column.name])
    arrays = {column.name: encoded[column.name] for column in spec.model_columns}
    arrays[LABEL] = _label(table, spec.label.name)
    arrays[WEIGHT] = _weight(table, spec.weight)
    arrays[GROUP] = np.zeros(table.num_rows, np.int32)
    if spec.group is not None:
        arrays[GROUP] = np.asarray(encoder.group_of(encoded[spec.group.name]))
    users = _raw(table, spec.user.name, spec.user)
    arrays[USER] = _by_distinct_value(users, fingerprint)
    arrays[ROW] = _column(table, ROW).to_numpy()
    for column in (*spec.with_role("satisfaction"), *spec.further_labels):
        signal = _column(table, column.name).cast(pa.float32())
        arrays[column.name] = signal.fill_null(np.nan).to_numpy()
    return arrays


def fingerprint(users: tf.Tensor) -> tf.Tensor:
    """int64 in `[0, 2**63 - 1)` for each user id: what `_user` holds."""
    return tf.strings.to_hash_bucket_fast(canonical(users), 2**63 - 1)


def _encode_scalar(column: ColumnSpec, values: pa.Array, encoder: Encoder) -> np.ndarray:
    def encode(raw: tf.Tensor) -> tf.Tensor:
        return encoder.encode_values(column, raw)

    owner = encoder.spec.owner(column)
    # Numbers are looked up sooner than they are told apart; strings, and what hashes them, are not.
    if column.type == "string" or owner.encoding == "hash" or owner.num_oov > 1:
        return _by_distinct_value(values, encode)
    return np.asarray(encode(tf.constant(values.to_numpy())))


def _encode_list(column: ColumnSpec, values: pa.Array, encoder: Encoder) -> np.ndarray:
    # `flatten` leaves out what a null list or a slice hides.
    elements = values.flatten().fill_null(missing_value(column))
    ids = _encode_scalar(column, elements, encoder)
    # Before it is padded: as it is stored, which is half as wide.
    ids = ids.astype(stored_dtype(encoder.spec, column))
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    ragged = tf.RaggedTensor.from_row_lengths(ids, lengths.astype(np.int64), validate=False)
    return np.asarray(shorten(column, ragged).to_tensor(0, shape=[None, column.max_length]))


def _by_distinct_value(values: pa.Array, encode: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
    """Encodes each distinct value once: hashing and looking up strings is the slow part."""
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        distinct = tf.constant(distinct, tf.string)
    return np.asarray(encode(tf.convert_to_tensor(distinct)))[encoded.indices.to_numpy()]


def _raw(table: pa.Table, name: str, column: ColumnSpec) -> pa.Array:
    """The column in the type of its raw values; a scalar null becomes the missing value."""
    scalar = _ARROW_TYPES[column.type]
    values = _column(table, name)
    if column.is_list:
        return values.cast(pa.list_(scalar))
    return values.cast(scalar).fill_null(missing_value(column))


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise ShardError(
            f"Rows for a shard lack the column '{name}'. Received: {_listed(table.column_names)}."
        )
    return table.column(name).combine_chunks()


def _label(table: pa.Table, name: str) -> np.ndarray:
    values = _column(table, name)
    clicks = values.cast(pa.float64()).fill_null(np.nan).to_numpy()
    bad = ~np.isin(clicks, (0, 1))
    if bad.any():
        raise ShardError(
            f"A label is 0 or 1. Received: {values[int(bad.argmax())]} in column '{name}', "
            f"{_where(table, bad)}. Such rows belong into the quarantine."
        )
    return clicks


def _weight(table: pa.Table, column: ColumnSpec | None) -> np.ndarray:
    if column is None:
        return np.ones(table.num_rows, np.float32)
    weights = _column(table, column.name).cast(pa.float32()).fill_null(np.nan).to_numpy()
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        raise ShardError(
            f"A sample weight is a finite number >= 0. Received: {weights[bad.argmax()]} in column "
            f"'{column.name}', {_where(table, bad)}. Such rows belong into the quarantine."
        )
    return weights


def _where(table: pa.Table, bad: np.ndarray) -> str:
    row = _column(table, ROW)[int(bad.argmax())]
    return f"row {row} ({int(bad.sum())} such rows of {table.num_rows})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no columns"
