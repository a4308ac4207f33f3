"""How raw columns are parsed from `tf.train.Example`: of a serving request, or of a raw log.

raw = tf.io.parse_example(serialized, parsing_spec(spec, serving=True))
features = encoder(raw)
"""

from __future__ import annotations

import tensorflow as tf

from clsd_tf.encoding import missing_value, raw_dtype
from clsd_tf.features import ClickLogSpec, ColumnSpec


def serving_columns(spec: ClickLogSpec) -> tuple[ColumnSpec, ...]:
    """Columns that a request carries: the model's, the click history included."""
    return spec.model_columns


def raw_columns(spec: ClickLogSpec) -> tuple[ColumnSpec, ...]:
    """Columns that a row of the raw log carries: all but the ignored ones."""
    return tuple(column for column in spec.columns if column.role != "ignore")


def parsing_spec(
    spec: ClickLogSpec, serving: bool
) -> dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]:
    """What `tf.io.parse_example` needs to read raw rows.

    Args:
      spec: of the click log.
      serving: whether the Examples are requests, without label, signals and group.

    Returns:
      column name -> config. Scalars parse to `[batch]` and may be absent, which gives the raw
      missing value; only the label has to be there. Lists parse to a ragged `[batch, None]`.
    """
    columns = serving_columns(spec) if serving else raw_columns(spec)
    return {column.name: _config(column) for column in columns}


def group_parsing_spec(spec: ClickLogSpec) -> dict[str, tf.io.FixedLenFeature]:
    """What is parsed besides, where the user's group is asked for; empty for a log without one."""
    return {column.name: _config(column) for column in spec.with_role("group")}


def _config(column: ColumnSpec) -> tf.io.FixedLenFeature | tf.io.RaggedFeature:
    if column.is_list:
        return tf.io.RaggedFeature(raw_dtype(column), row_splits_dtype=tf.int64)
    # A label that is absent must not turn into a number.
    default = None if column.role == "label" else missing_value(column)
    return tf.io.FixedLenFeature([], raw_dtype(column), default_value=default)
