"""Raw rows as what the signatures of an export take.

A row is a mapping from column to raw value: an int, a float, a string, or a list of them. What is
left out, or None, is missing; what is no column of a request is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from clsd_tf.encoding import Encoder, missing_value, raw_dtype
from clsd_tf.entities import described_entity
from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.parsing import serving_columns

Value = str | bytes | int | float
Row = Mapping[str, Value | Sequence[Value] | None]
_KINDS = {"int": "int64_list", "float": "float_list", "string": "bytes_list"}
_ARRAYS = {"int": np.int64, "float": np.float32, "string": object}


def mask_name(column: ColumnSpec) -> str:
    """Input of the dense signatures that says which elements of a list are there."""
    return f"{column.name}_mask"


def to_example(spec: ClickLogSpec, row: Row, extra: Sequence[ColumnSpec] = ()) -> tf.train.Example:
    """A `tf.train.Example` of a row; missing values are left out of it.

    Args:
      spec: of the click log.
      row: raw values.
      extra: columns besides those that the model sees, such as the user's group.
    """
    example = tf.train.Example()
    for column in (*serving_columns(spec), *extra):
        if values := _values(column, row.get(column.name)):
            field = getattr(example.features.feature[column.name], _KINDS[column.type])
            field.value.extend(values)
    return example


def to_dense(spec: ClickLogSpec, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Inputs of `predict_features`.

    Returns:
      column -> int64, float32 or bytes `[rows]`; for lists `[rows, max_length]`, and beside it
      `<column>_mask`, bool, True where there is an element.
    """
    inputs: dict[str, np.ndarray] = {}
    for column in serving_columns(spec):
        inputs |= _dense(column, [row.get(column.name) for row in rows])
    return inputs


def to_candidates(
    spec: ClickLogSpec, once: Row, candidates: Sequence[Row]
) -> dict[str, np.ndarray]:
    """Inputs of `predict_candidates` for one user.

    Args:
      spec: of the click log.
      once: what is the same for all candidates: user, history, request.
      candidates: what differs, see `clsd_tf.entities`.

    Returns:
      As of `to_dense`, but `[1, ...]`, and `[1, candidates, ...]` where a column is a candidate's.
    """
    inputs: dict[str, np.ndarray] = {}
    for column in serving_columns(spec):
        if described_entity(spec, column) == "item":
            of_candidates = _dense(column, [row.get(column.name) for row in candidates])
            inputs |= {name: values[np.newaxis] for name, values in of_candidates.items()}
        else:
            inputs |= _dense(column, [once.get(column.name)])
    return inputs


def to_encoded(encoder: Encoder, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Inputs of `predict_encoded`: model features, int64 or float32 [rows] or [rows, length]."""
    dense = to_dense(encoder.spec, rows)
    encoded = {}
    for column in serving_columns(encoder.spec):
        values = tf.constant(dense[column.name], raw_dtype(column))
        if column.is_list:
            values = tf.ragged.boolean_mask(values, dense[mask_name(column)])
        encoded[column.name] = encoder.encode_column(column, values).numpy()
    return encoded


def _dense(column: ColumnSpec, raw: Sequence[object]) -> dict[str, np.ndarray]:
    missing = b"" if column.type == "string" else missing_value(column)
    rows = [_values(column, value) for value in raw]
    if not column.is_list:
        array = np.full(len(rows), missing, _ARRAYS[column.type])
        for place, values in enumerate(rows):
            if values:
                array[place] = values[0]
        return {column.name: array}
    array = np.full((len(rows), column.max_length), missing, _ARRAYS[column.type])
    mask = np.zeros(array.shape, bool)
    for place, values in enumerate(rows):
        first = column.keep == "first"
        kept = values[: column.max_length] if first else values[-column.max_length :]
        array[place, : len(kept)] = kept
        mask[place, : len(kept)] = True
    return {column.name: array, mask_name(column): mask}


def _values(column: ColumnSpec, value: object) -> list[Value]:
    """The values of a column in one row; none if it is missing.

    Raises:
      ValueError: a value is of another type than the column.
    """
    if value is None:
        return []
    values = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    if not column.is_list and len(values) != 1:
        raise ValueError(
            f"Column '{column.name}' holds one value. Received: {values}. Expected: one "
            f"{column.type}."
        )
    return [_converted(column, element) for element in values]


def _converted(column: ColumnSpec, value: object) -> Value:
    if column.type == "string" and isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    if column.type == "float" and isinstance(value, int | float | np.number):
        return float(value)
    if column.type == "int" and isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise ValueError(
        f"Column '{column.name}' holds values of type {column.type}. Received: {value!r}. Send raw "
        "values as they stand in the log."
    )
