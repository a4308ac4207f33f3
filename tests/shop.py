"""A small shop: its spec, raw requests to it, and what else tests of exports share."""

from __future__ import annotations

import collections
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from clsd_tf.backbones import get_backbone
from clsd_tf.encoding import Encoder, EncodingTables, vocabulary_path
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.requests import Row

SPEC = """
name = "shop"
[split]
by = "time"
[history]
length = 3
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary", num_oov = 2 }
scene = { type = "int", encoding = "identity", num_values = 4 }
age = { type = "float", encoding = "buckets", boundaries = [18.0, 30.0] }
price = { type = "float", encoding = "numeric", scaling = "log", describes = "item" }
item_tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 2, keep = "first" }
segment = { role = "group", type = "int", encoding = "identity", num_values = 2 }
click = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""
REQUESTS: list[Row] = [
    {"user_id": 7, "item_id": "fig", "click_history": ["pear", "kiwi"], "age": 18.0, "price": 3.0},
    {"user_id": 8, "item_id": "kiwi", "scene": 3, "click_history": [], "item_tags": [5, 6, 7]},
    {"item_id": "pear", "click_history": ["fig"] * 5, "age": 44.5, "price": -1.0, "scene": 9},
    {},
]
ONCE: Row = {"user_id": 9, "age": 33.0, "click_history": ["fig"], "scene": 1, "segment": 1}
CANDIDATES: list[Row] = [
    {"item_id": "fig", "price": 2.5},
    {"item_id": "pear", "price": 80.0, "item_tags": [1]},
    {"item_id": "kiwi"},
]


def make_encoder(directory: pathlib.Path) -> Encoder:
    (directory / "vocab").mkdir(parents=True)
    (directory / "spec.toml").write_text(SPEC)
    for column, tokens in {"user_id": ["7", "9"], "item_id": ["fig", "pear"]}.items():
        vocabulary_path(directory, column).write_text("".join(f"{t}\n" for t in tokens))
    EncodingTables(vocabulary_sizes={"user_id": 2, "item_id": 2}).save(directory)
    return Encoder.load(directory)


def make_model(encoder: Encoder) -> ClickConfidenceModel:
    """A student with a teacher, whose scores are far apart."""
    teacher, backbone = (get_backbone("din", encoder.model_features, units=[8]) for _ in range(2))
    model = ClickConfidenceModel(backbone, teacher, "affine", num_groups=encoder.num_groups)
    for layer in (backbone, teacher):
        layer(features_of(encoder, REQUESTS))
        layer.set_weights([w * 3.0 for w in layer.get_weights()])
    groups = np.arange(40) % encoder.num_groups
    clicks = (np.arange(40) % (2 + groups) == 0).astype(np.float32)
    model.confidence.fit_held_out(np.linspace(-2, 2, 40, dtype=np.float32), clicks, groups)
    return model


def features_of(encoder: Encoder, rows: list[Row]) -> dict[str, tf.Tensor]:
    """Raw rows through the encoder, without any request."""
    missing = {"int": -(2**63), "float": float("nan"), "string": ""}
    dtypes = {"int": tf.int64, "float": tf.float32, "string": tf.string}
    raw = {}
    for column in encoder.spec.model_columns:
        if column.is_list:
            raw[column.name] = tf.ragged.constant(
                [row.get(column.name, []) for row in rows], dtypes[column.type], ragged_rank=1
            )
        else:
            values = [row.get(column.name, missing[column.type]) for row in rows]
            raw[column.name] = tf.constant(values, dtypes[column.type])
    return encoder(raw)


def example(row: Row) -> tf.train.Example:
    """An Example by other means than those of the library."""
    kinds = {int: "int64_list", float: "float_list", str: "bytes_list"}
    made = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        if values:
            field = getattr(made.features.feature[name], kinds[type(values[0])])
            field.value.extend(v.encode() if isinstance(v, str) else v for v in values)
    return made


def serialized(rows: list[Row]) -> tf.Tensor:
    return tf.constant([example(row).SerializeToString() for row in rows], tf.string)


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def graph_of(path: pathlib.Path):
    """The one meta graph of a SavedModel."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    return graph


def op_histogram(path: pathlib.Path) -> collections.Counter:
    """Operations of a SavedModel, those in its functions included."""
    graph = graph_of(path).graph_def
    functions = [node for function in graph.library.function for node in function.node_def]
    return collections.Counter(node.op for node in [*graph.node, *functions])


def variable_bytes(path: pathlib.Path) -> int:
    """Bytes of the numbers in a SavedModel."""
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    types = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sum(
        int(np.prod(shapes[name])) * types[name].size
        for name in shapes
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    )
