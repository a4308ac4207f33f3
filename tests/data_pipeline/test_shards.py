"""Shards against a plain-Python reference of the encoding, in both layouts."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from clsd_tf.encoding import Encoder
from data_pipeline.arrow_encoding import encode_table
from data_pipeline.manifest import Manifest, ShardError
from data_pipeline.shard_format import (
    shard_features,
)
from data_pipeline.shards import keys_path, write_split

CITIES, ITEMS, USERS = ["Bonn", "Ulm"], ["apple", "pear", "fig", "Öl"], [3, 1, 4, 15]


def bucket(value: object, size: int) -> int:
    return int(tf.strings.to_hash_bucket_fast(str(value), size))


def item_id(item: str) -> int:
    return 4 + ITEMS.index(item) if item in ITEMS else 1 + bucket(item, 3)


def padded(values: list[int], length: int) -> list[int]:
    return values + [0] * (length - len(values))


def reference(row: dict) -> dict:
    """What the spec of conftest.py says, spelled out."""
    city = "Ulm" if row["city"] is None else row["city"]
    tags = [0 if tag is None else 1 + bucket(tag, 9) for tag in row["tags"] or []]
    scaled = (math.log1p(row["price"]) - 1.5) / 0.5 if row["price"] is not None else 0.0
    age, scene, activity = row["age"], row["scene"], row["activity"]
    return {
        "user_id": 2 + USERS.index(row["user_id"]) if row["user_id"] in USERS else 1,
        "item_id": item_id(row["item_id"]),
        "city": 2 + CITIES.index(city) if city in CITIES else 1,
        "scene": 0 if scene is None else 2 + scene if 0 <= scene < 4 else 1,
        "device": 0 if row["device"] is None else 1 + bucket(row["device"], 50),
        "age": 0 if age is None else 1 + (age >= 18) + (age >= 30),
        "price": np.float32(scaled),
        "tags": padded(tags[:3], 3),
        "click_history": padded([item_id(i) for i in row["click_history"] or []][-4:], 4),
        "_group": 0 if activity is None else (activity >= 5) + (activity >= 9),
        "_user": bucket(row["user_id"], 2**63 - 1),
        "_row": row["_row"],
        "_label": row["click"],
        "_weight": row["propensity"],
        "long_view": math.nan if row["long_view"] is None else row["long_view"],
    }


def test_encoding_equals_a_plain_reference(generate):
    log = generate(200)
    arrays = encode_table(pa.Table.from_batches(log.batches()), log.encoder)
    expected = [reference(row) for row in log.rows]
    assert set(arrays) == {feature.name for feature in shard_features(log.spec)} == {*expected[0]}
    for name, values in arrays.items():
        np.testing.assert_allclose(values, [row[name] for row in expected], 1e-5, err_msg=name)


def test_history_of_items_that_are_no_model_input(generate):
    log = generate(30)
    item = log.spec.item.model_copy(update={"model_input": False})
    columns = tuple(item if column.role == "item" else column for column in log.spec.columns)
    spec = log.spec.model_copy(update={"columns": columns})
    encoder = Encoder(spec, log.encoder.tables, log.directory / "encoding")
    arrays = encode_table(pa.Table.from_batches(log.batches()), encoder)
    assert "item_id" not in arrays
    expected = [reference(row)["click_history"] for row in log.rows]
    np.testing.assert_array_equal(arrays["click_history"], expected)


def test_a_slice_of_a_batch_encodes_as_its_rows(generate):
    log = generate(50)
    table = pa.Table.from_batches(log.batches(50))
    whole, part = encode_table(table, log.encoder), encode_table(table.slice(7, 9), log.encoder)
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][7:16], name)


def test_row_layout_is_what_python_protos_would_hold(generate):
    log = generate(20)
    directory = log.write("row", layout="row", num_shards=1)
    path = directory / "train-00000-of-00001.tfrecord"
    for row, record in zip(log.rows, tf.data.TFRecordDataset(str(path)), strict=True):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        expected = reference(row)
        assert set(features) == set(expected)
        for name, value in expected.items():
            kind = features[name].WhichOneof("kind")
            if name in ("price", "_weight", "long_view"):
                assert kind == "float_list"
                np.testing.assert_allclose(features[name].float_list.value, [value], 1e-5)
            elif isinstance(value, list):
                assert padded(list(features[name].int64_list.value), len(value)) == value
                assert features[name].int64_list.value[-1:] != [0]
            else:
                assert (kind, list(features[name].int64_list.value)) == ("int64_list", [value])


def test_columnar_record_holds_little_endian_arrays(generate):
    log = generate(20)
    directory = log.write("columnar", num_shards=1, block_rows=16)
    path = directory / "train-00000-of-00001.tfrecord"
    blocks = [
        tf.train.Example.FromString(record.numpy()).features.feature
        for record in tf.data.TFRecordDataset(str(path))
    ]
    expected = [reference(row) for row in log.rows]
    assert len(blocks) == 2
    last = np.frombuffer(blocks[1]["tags"].bytes_list.value[0], "<i4").reshape(4, 3)
    np.testing.assert_array_equal(last, [row["tags"] for row in expected[16:]])
    users = np.frombuffer(blocks[0]["_user"].bytes_list.value[0], "<i8")
    np.testing.assert_array_equal(users, [row["_user"] for row in expected[:16]])


def test_keys_are_in_the_order_of_the_rows(generate):
    log = generate(100)
    directory = log.write("data", num_shards=3)
    shards = Manifest.load(directory).shards
    assert [shard.rows for shard in shards] == [33, 33, 34]
    keys = [pq.read_table(keys_path(directory, shard.file)).to_pylist() for shard in shards]
    names = ("_row", "user_id", "item_id", "time_ms", "_day")
    assert [k for part in keys for k in part] == [{n: row[n] for n in names} for row in log.rows]


def test_shard_info_describes_the_file(generate):
    directory = generate(40).write("data")
    for shard in Manifest.load(directory).shards:
        content = (directory / shard.file).read_bytes()
        assert shard.bytes == len(content)
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert not list(directory.rglob("*.tmp"))


def test_the_same_rows_give_the_same_bytes_whatever_the_batches(generate):
    log = generate(90)
    options = {"rows": 90, "num_shards": 2, "block_rows": 8}
    small, large = (
        write_split(log.batches(size), log.directory / str(size), "train", log.encoder, **options)
        for size in (7, 90)
    )
    assert small == large


def test_the_same_rows_give_the_same_bytes_whatever_the_threads(generate):
    log = generate(90)
    one, several = (
        write_split(
            log.batches(),
            log.directory / str(threads),
            "train",
            log.encoder,
            rows=90,
            num_shards=2,
            block_rows=1,  # 32 rows at a time
            threads=threads,
        )
        for threads in (1, 3)
    )
    assert one == several


def test_more_shards_than_rows(generate):
    log = generate(3)
    shards = Manifest.load(log.write("data", num_shards=10)).shards
    assert [shard.rows for shard in shards] == [1, 1, 1]
    assert shards[2].file == "train-00002-of-00003.tfrecord"


def test_an_empty_split_has_no_shard(generate):
    log = generate(0)
    assert write_split([], log.directory, "test", log.encoder, rows=0, num_shards=4) == []


@pytest.mark.parametrize("announced", [9, 11])
def test_another_number_of_rows_than_announced(generate, announced):
    log = generate(10)
    with pytest.raises(ShardError, match=f"announced with {announced} rows. Received: 10"):
        write_split(
            log.batches(), log.directory, "train", log.encoder, rows=announced, num_shards=2
        )


def test_progress_counts_rows(generate):
    counted = []
    generate(100).write("data", progress=counted.append)
    assert sum(counted) == 100


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("click", 2, "A label is 0 or 1. Received: 2 in column 'click', row 4"),
        ("click", None, "A label is 0 or 1. Received: None"),
        ("propensity", float("inf"), "A sample weight is a finite number >= 0. Received: inf"),
    ],
)
def test_rows_that_belong_into_the_quarantine_are_refused(generate, column, value, message):
    log = generate(6)
    log.rows[4][column] = value
    with pytest.raises(ShardError, match=message):
        log.write("data")
    assert not (log.directory / "data" / "manifest.json").exists()


def test_a_missing_column_is_named(generate):
    log = generate(5)
    batches = [batch.drop_columns(["age"]) for batch in log.batches()]
    with pytest.raises(ShardError, match=r"lack the column 'age'. Received: _row, _day, user_id"):
        write_split(batches, log.directory, "train", log.encoder, rows=5, num_shards=1)


def test_manifest_round_trip(tmp_path, generate):
    directory = generate(10).write("data")
    manifest = Manifest.load(directory)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    raw = json.loads((tmp_path / "manifest.json").read_text())
    assert set(raw["shards"][0]) == {"file", "split", "rows", "bytes", "sha256"}


def test_manifest_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(ShardError, match="Received: no folder"):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "log.csv").touch()
    with pytest.raises(ShardError, match=r"no manifest.json. Received: a folder with log.csv"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"shards": []}')
    with pytest.raises(ShardError, match="missing 4 required"):
        Manifest.load(tmp_path)
    with pytest.raises(ValueError, match=r"Received: 'wide'. Expected one of: columnar, row"):
        Manifest("log", "wide", 1, {}, ())
