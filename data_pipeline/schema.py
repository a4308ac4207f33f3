"""`schema.pbtxt`: the raw columns of a click log, as TFX tools describe data.

Environment TRAINING is a row of the log, SERVING a request: label, post-click signals, sample
weight, timestamp and group are not in it, and the click history is, for the client sends it.
"""

from __future__ import annotations

import pathlib

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.parsing import raw_columns, serving_columns

SCHEMA_FILE = "schema.pbtxt"
TRAINING, SERVING = "TRAINING", "SERVING"
_TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}
# Rows without these never reach a shard.
_REQUIRED_ROLES = ("label", "user", "item", "timestamp")


def raw_schema(spec: ClickLogSpec) -> schema_pb2.Schema:
    """The schema of raw `tf.train.Example`s, one feature a column, tagged with its role."""
    schema = schema_pb2.Schema(default_environment=[TRAINING, SERVING])
    # Lists are parsed as ragged tensors, see `clsd_tf.parsing.parsing_spec`.
    schema.represent_variable_length_as_ragged = True
    served = {column.name for column in serving_columns(spec)}
    for column in raw_columns(spec):
        feature = schema.feature.add(name=column.name, type=_TYPES[column.type])
        feature.annotation.tag.append(column.role)
        if column.name not in served:
            feature.not_in_environment.append(SERVING)
        feature.presence.min_count = 1
        if column.is_list:
            feature.value_count.min = 0
        elif column.role in _REQUIRED_ROLES:
            feature.presence.min_fraction = 1.0
            feature.shape.SetInParent()  # no dimension: a scalar
        else:
            # TFX takes a fixed shape only where no row lacks the feature.
            feature.value_count.min = feature.value_count.max = 1
        _add_domain(feature, column, spec.owner(column))
    return schema


def write_schema(spec: ClickLogSpec, directory: str | pathlib.Path) -> pathlib.Path:
    """Writes `schema.pbtxt` into `directory` and returns its path."""
    path = pathlib.Path(directory) / SCHEMA_FILE
    path.write_text(text_format.MessageToString(raw_schema(spec)), encoding="utf-8")
    return path


def _add_domain(feature: schema_pb2.Feature, column: ColumnSpec, owner: ColumnSpec) -> None:
    """States which integers are ids or a bounded range; nothing is said of other columns."""
    if column.type != "int":
        return
    if column.role == "label" and column.positive_from is None:
        feature.int_domain.min, feature.int_domain.max = 0, 1
    elif owner.encoding == "identity":
        feature.int_domain.min, feature.int_domain.max = 0, owner.num_values - 1
        feature.int_domain.is_categorical = True
    elif owner.encoding in ("vocabulary", "hash"):
        feature.int_domain.is_categorical = True
