"""How impressions are laid out in a TFRecord: two layouts, written and read in one place.

`columnar`: one `tf.train.Example` holds a block of rows, and each feature is one bytes value, the
little-endian array of the block (lists `[rows, length]`, padded with id 0). `row`: one Example
holds one row as int64 and float lists, as TFX expects them (lists without their padding).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from clsd_tf.features import GROUP, LABEL, ROW, USER, WEIGHT, ClickLogSpec, ColumnSpec
from data_pipeline.manifest import Layout

PACKED = "_packed"

# Field of `Feature` and its message, for ids and for floats.
_ROW_KINDS = {False: ("int64_list", "Int64List"), True: ("float_list", "FloatList")}


@dataclasses.dataclass(frozen=True)
class ShardFeature:
    """One feature of a shard.

    Attributes:
      name: column name or one of the reserved names of `clsd_tf.features`.
      dtype: dtype in the columnar layout: "int32", "int64" or "float32".
      length: elements in a row of a list, None for a scalar.
    """

    name: str
    dtype: str
    length: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether the row layout keeps it as a float list."""
        return self.dtype == "float32"


def shard_features(spec: ClickLogSpec) -> tuple[ShardFeature, ...]:
    """Everything a shard of a log with this `spec` holds, in the order it is written."""
    columns = tuple(
        ShardFeature(column.name, stored_dtype(spec, column), column.max_length)
        for column in spec.model_columns
    )
    reserved = (
        ShardFeature(LABEL, "int32"),
        ShardFeature(WEIGHT, "float32"),
        ShardFeature(GROUP, "int32"),
        ShardFeature(USER, "int64"),
        ShardFeature(ROW, "int64"),
    )
    signals = (*spec.with_role("satisfaction"), *spec.further_labels)
    return columns + reserved + tuple(ShardFeature(c.name, "float32") for c in signals)


def stored_dtype(spec: ClickLogSpec, column: ColumnSpec) -> str:
    """Dtype of a column in the columnar layout."""
    owner = spec.owner(column)
    if owner.is_numeric:
        return "float32"
    # Only declared sizes can pass 32 bits. `+ 2` is for the ids of missing and unknown values.
    declared = owner.num_buckets or owner.num_values or 0
    return "int64" if declared + 2 >= 2**31 else "int32"


class Serializer:
    """Turns rows into the records of a shard."""

    def __init__(self, features: Sequence[ShardFeature], layout: Layout, block_rows: int):
        """`block_rows`: rows in a columnar record."""
        self._features = tuple(features)
        self._layout = layout
        self._block_rows = block_rows

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
        """Yields records; the last block holds what remains.

        Args:
          arrays: feature name -> `[rows]`, for lists `[rows, length]` padded with id 0.
        """
        if self._layout == "row":
            values = [arrays[f.name].astype(_row_dtype(f)) for f in self._features]
            yield from _row_serializer(self._features)(values).numpy()
        else:
            yield from self._serialize_blocks(arrays)

    def _serialize_blocks(self, arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
        stored = {
            f.name: arrays[f.name].astype(_stored_order(f), copy=False) for f in self._features
        }
        for start in range(0, len(arrays[ROW]), self._block_rows):
            example = tf.train.Example()
            for name, values in stored.items():
                block = values[start : start + self._block_rows].tobytes()
                example.features.feature[name].bytes_list.value.append(block)
            yield example.SerializeToString(deterministic=True)


@functools.lru_cache(maxsize=4)
def _row_serializer(
    features: tuple[ShardFeature, ...],
) -> Callable[[list[np.ndarray]], tf.Tensor]:
    """`_row_examples` as a graph, the same for all splits and data sets of these features."""
    examples = functools.partial(_row_examples, features)
    return tf.function(examples, input_signature=[[_row_spec(feature) for feature in features]])


def _row_examples(features: Sequence[ShardFeature], columns: list[tf.Tensor]) -> tf.Tensor:
    """Examples `[rows]`, built from the inside out by the op that encodes protos.

    It is 20 times faster than a Python object for each row.
    """
    entries = []
    for feature, values in zip(features, columns, strict=True):
        if feature.length is None:
            values = values[:, tf.newaxis]
            sizes = tf.ones_like(values, tf.int32)
        else:
            # What follows the last id is padding; an id 0 before it is a missing element.
            places = tf.range(1, feature.length + 1)
            sizes = tf.reduce_max(tf.where(values != 0, places, 0), axis=1, keepdims=True)
        kind, message = _ROW_KINDS[feature.is_float]
        value = tf.io.encode_proto(sizes, [values], ["value"], f"tensorflow.{message}")
        value = _nest([value], [kind], "Feature")
        key = tf.fill(tf.shape(value), feature.name)
        entries.append(_nest([key, value], ["key", "value"], "Features.FeatureEntry"))
    sizes = tf.fill([tf.shape(entries[0])[0], 1], len(entries))
    inner = tf.io.encode_proto(
        sizes, [tf.stack(entries, axis=1)], ["feature"], "tensorflow.Features"
    )
    return _nest([inner], ["features"], "Example")


def parse_blocks(serialized: tf.Tensor, features: Sequence[ShardFeature]) -> dict[str, tf.Tensor]:
    """Parses columnar records and puts their rows one after the other.

    Scalars of 32 bits lie side by side, so that to permute rows costs one copy a row. One for each
    scalar, which is mostly the call, was a quarter of what reading costs.

    Args:
      serialized: string `[blocks]`.
      features: what to parse; the rest is skipped.

    Returns:
      `PACKED` -> int32 `[rows, scalars of 32 bits]`, for `unpack`; name of each other feature ->
      `[rows]`, for lists `[rows, length]`, in the stored dtype.
    """
    parsed = tf.io.parse_example(
        serialized, {f.name: tf.io.FixedLenFeature([], tf.string) for f in features}
    )

    # Blocks of one length are decoded as they are. Where one is shorter, as the last of a shard is,
    # they are joined before, which is a copy.
    sizes = tf.strings.length(parsed[features[0].name])
    blocks = tf.cond(
        tf.reduce_all(sizes == sizes[:1]),
        lambda: parsed,
        lambda: {n: tf.strings.reduce_join(b, keepdims=True) for n, b in parsed.items()},
    )

    def values(feature: ShardFeature, dtype: str) -> tf.Tensor:
        decoded = tf.io.decode_raw(blocks[feature.name], dtype, little_endian=True)
        return tf.reshape(decoded, [-1])

    packed = _packed(features)
    table = {f.name: tf.reshape(values(f, f.dtype), _shape(f)) for f in features if f not in packed}
    if packed:
        table[PACKED] = _transpose(tf.stack([values(f, "int32") for f in packed]))
    return table


def unpack(
    table: Mapping[str, tf.Tensor], features: Sequence[ShardFeature]
) -> dict[str, tf.Tensor]:
    """Gives each of the `features` that `parse_blocks` packed a tensor of its own, `[rows]`.

    Integers of 32 bits come as int64, as models want them: all at once costs half of one by one.
    """
    columns = {name: values for name, values in table.items() if name != PACKED}
    packed = _packed(features)
    if not packed:
        return columns
    bits = _transpose(table[PACKED])
    num_floats = sum(f.is_float for f in packed)
    floats = tf.bitcast(bits[:num_floats], tf.float32)
    ids = tf.cast(bits[num_floats:], tf.int64)
    values = [*tf.unstack(floats, num=num_floats), *tf.unstack(ids, num=len(packed) - num_floats)]
    return columns | {f.name: v for f, v in zip(packed, values, strict=True)}


def parse_rows(serialized: tf.Tensor, features: Sequence[ShardFeature]) -> dict[str, tf.Tensor]:
    """Parses records of the row layout: string `[rows]` to a tensor for each feature.

    Integers come as int64.
    """
    config = {}
    for feature in features:
        dtype = _row_dtype(feature)
        if feature.length is None:
            config[feature.name] = tf.io.FixedLenFeature([], dtype)
        else:
            config[feature.name] = tf.io.RaggedFeature(dtype)
    parsed = tf.io.parse_example(serialized, config)
    return {
        f.name: parsed[f.name].to_tensor(0, shape=[None, f.length]) if f.length else parsed[f.name]
        for f in features
    }


def _packed(features: Sequence[ShardFeature]) -> list[ShardFeature]:
    """Those that `parse_blocks` packs, in its order: floats, then integers."""
    scalars = [f for f in features if f.length is None and np.dtype(f.dtype).itemsize == 4]
    return sorted(scalars, key=lambda f: not f.is_float)


def _transpose(bits: tf.Tensor) -> tf.Tensor:
    """A transposed int32 matrix; oneDNN does that for floats, in half to two thirds of the time."""
    return tf.bitcast(tf.transpose(tf.bitcast(bits, tf.float32)), tf.int32)


def _nest(values: Sequence[tf.Tensor], fields: Sequence[str], message: str) -> tf.Tensor:
    """One message around one value for each field: strings `[rows]` to strings `[rows]`."""
    sizes = tf.ones([tf.shape(values[0])[0], len(fields)], tf.int32)
    columns = [value[:, tf.newaxis] for value in values]
    return tf.io.encode_proto(sizes, columns, list(fields), f"tensorflow.{message}")


def _shape(feature: ShardFeature) -> list[int]:
    return [-1] if feature.length is None else [-1, feature.length]


def _row_dtype(feature: ShardFeature) -> str:
    return "float32" if feature.is_float else "int64"


def _row_spec(feature: ShardFeature) -> tf.TensorSpec:
    shape = [None] if feature.length is None else [None, feature.length]
    return tf.TensorSpec(shape, _row_dtype(feature))


def _stored_order(feature: ShardFeature) -> np.dtype:
    return np.dtype(feature.dtype).newbyteorder("<")
