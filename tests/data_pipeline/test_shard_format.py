"""The columnar layout: what is written comes back bit by bit."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.shard_format import (
    PACKED,
    Serializer,
    ShardFeature,
    parse_blocks,
    shard_features,
    unpack,
)


@pytest.mark.parametrize(("block_rows", "blocks"), [(4, 3), (5, 2), (10, 1)])
def test_blocks_of_any_length_come_back_bit_by_bit(block_rows, blocks):
    features = [
        ShardFeature("small", "int32"),
        ShardFeature("x", "float32"),
        ShardFeature("large", "int64"),
        ShardFeature("list", "int32", 3),
        ShardFeature("y", "float32"),
    ]
    rows = 10
    arrays = {
        "small": np.arange(-5, 5, dtype=np.int32),
        "x": np.array([math.nan, -0.0, math.inf, *range(7)], np.float32),
        "large": 2**40 + np.arange(rows),
        "list": np.arange(3 * rows, dtype=np.int32).reshape(rows, 3),
        "y": np.linspace(0, 1, rows, dtype=np.float32),
    }
    write = Serializer(features, "columnar", block_rows)
    records = list(write({**arrays, "_row": arrays["large"]}))
    assert len(records) == blocks  # the last of three is smaller
    table = parse_blocks(tf.constant(records), features)
    assert table[PACKED].shape == (rows, 3)
    order = np.random.default_rng(0).permutation(rows)
    moved = unpack({name: tf.gather(values, order) for name, values in table.items()}, features)
    assert moved.keys() == arrays.keys()
    for feature in features:
        values = moved[feature.name].numpy()
        expected = arrays[feature.name][order]
        assert values.dtype == ("int64" if feature.name == "small" else feature.dtype)
        assert values.tobytes() == expected.astype(values.dtype).tobytes()
    # Neither is there anything to pack in a single list, nor is it touched.
    alone = parse_blocks(tf.constant(records), features[3:4])
    assert alone.keys() == unpack(alone, features[3:4]).keys() == {"list"}


def test_what_is_packed_keeps_its_bits_in_a_pipeline():
    """Small ids are denormal as floats, which threads of `tf.data` take for 0 in arithmetic."""
    ids, rows = [ShardFeature(f"id_{i}", "int32") for i in range(28)], 4096
    bits = np.random.default_rng(0).integers(-(2**31), 2**31, (28, rows)).astype(np.int32)
    bits[:14] = np.arange(14 * rows).reshape(14, rows)
    bits[14:, :2] = np.array([0x7F800001, 0xFFC12345], np.uint32).view(np.int32)  # no numbers
    arrays = {f.name: values for f, values in zip(ids, bits, strict=True)}
    records = list(Serializer(ids, "columnar", block_rows=1024)({**arrays, "_row": bits[0]}))
    dataset = tf.data.Dataset.from_tensors(records).map(lambda r: parse_blocks(r, ids))
    (read,) = dataset.map(lambda table: unpack(table, ids))
    np.testing.assert_array_equal([read[f.name] for f in ids], bits)


def test_many_data_sets_of_rows_are_written_without_a_warning(caplog):
    """TensorFlow warns of a graph that is made anew again and again."""
    features = [ShardFeature("x", "float32"), ShardFeature("list", "int32", 2)]
    with caplog.at_level(logging.WARNING):
        for count in range(1, 9):
            x = np.arange(count, dtype=np.float32)
            ids = np.arange(2 * count, dtype=np.int32).reshape(count, 2)
            records = list(Serializer(features, "row", 4)({"x": x, "list": ids, "_row": x}))
            found = [tf.train.Example.FromString(record).features.feature for record in records]
            assert [example["x"].float_list.value[0] for example in found] == [*x]
    assert caplog.records == []


def test_only_declared_sizes_beyond_32_bits_take_64(generate):
    spec = generate(1).spec
    big = spec.column("device").model_copy(update={"num_buckets": 2**31})
    columns = tuple(big if column.name == "device" else column for column in spec.columns)
    features = shard_features(spec.model_copy(update={"columns": columns}))
    assert ShardFeature("device", "int64") in features
    assert ShardFeature("scene", "int32") in features
