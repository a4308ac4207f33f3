"""The reader: same rows from both layouts, an order that can be replayed, damage that is named."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import row_windows
from data_pipeline.manifest import Manifest, ShardInfo
from data_pipeline.reader import ShardError, make_dataset, read_errors, steps_per_epoch, verify
from data_pipeline.sharing import worker_share

LAYOUTS = ("columnar", "row")
# Digests of the rows of an epoch by seeds 0 and 1, for blocks of so many rows.
ORDER_OF_4 = ["0babed696996d605", "f9bd5e4e95794eab"]
ORDER_OF_16 = ["2c8fe633e6fcf011", "3c370d375480c9e2"]


@pytest.fixture
def small_windows(monkeypatch):
    """Several windows, records at a time and open files even for a small log."""
    monkeypatch.setattr(row_windows, "WINDOW_ROWS", 64)
    monkeypatch.setattr(row_windows, "_ROWS_AT_ONCE", 8)
    monkeypatch.setattr(row_windows, "_OPEN_FILES", 2)


def batches_of(directory, batch_size=20, **options) -> list[list[int]]:
    """The `_row`s of each batch."""
    dataset = make_dataset(
        directory, "train", batch_size, columns=[], extra_columns=["_row"], **options
    )
    return [features["_row"].numpy().tolist() for features, _, _ in dataset]


def rows_of(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def test_both_layouts_give_identical_rows(generate):
    log = generate(100)
    tables = []
    for layout in LAYOUTS:
        options = {"shuffle": False, "extra_columns": ["long_view", "_row"]}
        dataset = make_dataset(log.write(layout, layout=layout), "train", 1000, **options)
        features, label, weight = next(iter(dataset))
        tables.append({**features, "label": label, "weight": weight})
    assert tables[0].keys() == tables[1].keys()
    for name, values in tables[0].items():
        assert values.dtype == tables[1][name].dtype
        np.testing.assert_array_equal(values, tables[1][name], name)
    raw = {"_row": "_row", "click": "label", "propensity": "weight", "long_view": "long_view"}
    for name, feature in raw.items():
        expected = [np.nan if row[name] is None else row[name] for row in log.rows]
        np.testing.assert_array_equal(tables[0][feature], expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_element_spec(generate, layout):
    directory = generate(50).write("data", layout=layout)
    dataset = make_dataset(directory, "train", 20)
    features, label, weight = dataset.element_spec
    assert label == weight == tf.TensorSpec([None], tf.float32)
    model = {"user_id", "item_id", "city", "scene", "device", "age", "price", "tags"}
    assert set(features) == model | {"click_history", "_group", "_user"}
    assert features["tags"] == tf.TensorSpec([None, 3], tf.int64)
    assert features["price"] == tf.TensorSpec([None], tf.float32)
    assert features["_user"] == tf.TensorSpec([None], tf.int64)
    assert dataset.cardinality() == 3


def test_columns_restrict_the_features(generate):
    directory = generate(50).write("data")
    dataset = make_dataset(directory, "train", 20, columns=["price", "city"])
    assert set(dataset.element_spec[0]) == {"price", "city", "_group", "_user"}


def test_unknown_names_list_what_exists(generate):
    directory = generate(5).write("data")
    with pytest.raises(
        ValueError, match=r"`columns` .* Received: long_view. Expected some of: user_id, "
    ):
        make_dataset(directory, "train", 2, columns=["city", "long_view"])
    with pytest.raises(ValueError, match=r"Received: likes. Expected some of: long_view, _row."):
        make_dataset(directory, "train", 2, extra_columns=["likes"])
    with pytest.raises(ValueError, match=r"Received: 'dev'. Expected one of: train, valid"):
        make_dataset(directory, "dev", 2)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"num_workers": 2, "worker_index": 2}, {"skip_batches": 4}]
)
def test_arguments_out_of_range(generate, options):
    directory = generate(50).write("data")
    name = [*options][-1]
    with pytest.raises(ValueError, match=f"`{name}` .*Received"):
        make_dataset(directory, "train", **{"batch_size": 20, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_shuffling_rows_come_as_they_were_written(generate, small_windows, layout):
    directory = generate(200).write("data", layout=layout)
    batches = batches_of(directory, 30, shuffle=False)
    assert rows_of(batches) == [*range(200)]
    assert [len(batch) for batch in batches] == [30] * 6 + [20]


@pytest.mark.parametrize(("block_rows", "order"), [(4, ORDER_OF_4), (16, ORDER_OF_16)])
def test_the_order_is_that_of_earlier_versions(generate, small_windows, block_rows, order):
    """Another would change what a resumed training sees, and what a shared reading yields.

    Of blocks of 4 rows several are read at a time; a block of 16 rows comes by itself.
    """
    directory = generate(100).write("data", block_rows=block_rows)
    digests = [
        hashlib.sha256(np.array(rows_of(batches_of(directory, seed=seed)), np.int64)).hexdigest()
        for seed in (0, 1)
    ]
    assert [digest[:16] for digest in digests] == order


def test_a_split_without_rows_is_empty(generate):
    directory = generate(50).write("data")
    assert [*make_dataset(directory, "valid", 10, epochs=3)] == []
    assert steps_per_epoch(directory, "valid", 10) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_epochs_hold_all_rows_and_depend_on_seed_and_epoch_only(generate, small_windows, layout):
    directory = generate(200).write("data", layout=layout, num_shards=5)
    batches = batches_of(directory, seed=7, epochs=3)
    epochs = [rows_of(batches[start : start + 10]) for start in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [[*range(200)]] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert batches_of(directory, seed=7, epochs=3) == batches
    assert batches_of(directory, seed=8, epochs=1) != batches[:10]


def test_each_epoch_ends_with_its_partial_batch(generate, small_windows):
    directory = generate(70).write("data")
    sizes = [len(batch) for batch in batches_of(directory, 30, epochs=2)]
    assert sizes == [30, 30, 10, 30, 30, 10]
    dropped = [len(batch) for batch in batches_of(directory, 30, epochs=2, drop_remainder=True)]
    assert dropped == [30, 30, 30, 30]
    assert steps_per_epoch(directory, "train", 30) == 3
    assert steps_per_epoch(directory, "train", 30, drop_remainder=True) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("skip", [1, 5, 6, 7, 13, 18])
def test_skipping_continues_the_undisturbed_stream(generate, small_windows, layout, skip):
    directory = generate(170).write("data", layout=layout)
    whole = batches_of(directory, 30, seed=3, epochs=3)
    assert len(whole) == 18
    assert batches_of(directory, 30, seed=3, epochs=3, skip_batches=skip) == whole[skip:]


def test_skipped_epochs_are_not_read(generate):
    directory = generate(50).write("data")
    shard = directory / Manifest.load(directory).shards[0].file
    shard.write_bytes(bytes(shard.stat().st_size))
    assert batches_of(directory, 20, epochs=5, skip_batches=15) == []
    with pytest.raises(tf.errors.DataLossError):
        batches_of(directory, 20, epochs=5, skip_batches=14)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("num_shards", "num_workers"), [(5, 1), (5, 2), (5, 5), (2, 3), (1, 4)])
def test_every_row_goes_to_one_worker(generate, layout, num_shards, num_workers):
    directory = generate(150).write("data", layout=layout, num_shards=num_shards)
    read = []
    for index in range(num_workers):
        worker = {"num_workers": num_workers, "worker_index": index}
        batches = batches_of(directory, 20, **worker)
        assert len(batches) == steps_per_epoch(directory, "train", 20, **worker) > 0
        read += rows_of(batches)
    assert sorted(read) == [*range(150)]


def test_rows_of_a_block_are_spread(generate, monkeypatch):
    monkeypatch.setattr(row_windows, "WINDOW_ROWS", 512)
    directory = generate(1024).write("data", num_shards=4, block_rows=32)
    rows = np.array(rows_of(batches_of(directory, 64)))
    # A window mixes 16 blocks of all four files, so that a batch of 64 sees most of them ...
    blocks = [len(set(rows[start : start + 64] // 32)) for start in range(0, 1024, 64)]
    assert min(blocks) >= 12
    # ... and neighbours in the log are neighbours no more.
    assert np.mean(np.abs(np.diff(rows)) == 1) < 0.02


def test_windows_are_permuted_differently(generate, small_windows):
    directory = generate(128).write("data", num_shards=1)
    rows = np.array(rows_of(batches_of(directory, 64)))
    assert sorted(rows[:64]) == [*range(64)]
    assert list(rows[64:] - 64) != list(rows[:64])


def test_short_records_are_shared_out_among_workers():
    # Two shards of 20 rows in records of 16: the records of 4 rows go to different workers.
    shards = tuple(ShardInfo(f"{i}.tfrecord", "train", 20, 999, "") for i in range(2))
    manifest = Manifest("log", "columnar", 16, {"train": 40}, shards)
    parts = [worker_share(manifest, "train", 3, index) for index in range(3)]
    assert [[part.rows for part in share] for share in parts] == [[16, 0], [4, 16], [0, 4]]
    by_file = [worker_share(manifest, "train", 2, index) for index in range(2)]
    assert [[(p.shard.file, p.rows) for p in share] for share in by_file] == [
        [("0.tfrecord", 20)],
        [("1.tfrecord", 20)],
    ]


def test_a_short_and_a_missing_shard(generate):
    directory = generate(50).write("data")
    shard = Manifest.load(directory).shards[1]
    path = directory / shard.file
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    message = f"{shard.file} is cut short. Received: {shard.bytes - 5} bytes. Expected: "
    with pytest.raises(ShardError, match=f"{message}{shard.bytes} bytes"):
        make_dataset(directory, "train", 10)
    path.unlink()
    with pytest.raises(ShardError, match=f"{shard.file} is missing"):
        make_dataset(directory, "train", 10)
    assert batches_of(directory, num_workers=3, worker_index=0)  # whose shard is sound


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_named_by_file_record_and_byte(generate, layout):
    directory = generate(150).write("data", layout=layout)
    shard = Manifest.load(directory).shards[2]
    path = directory / shard.file
    records = [len(r.numpy()) + 16 for r in tf.data.TFRecordDataset(str(path))]
    content = bytearray(path.read_bytes())
    content[sum(records[:2]) + 40] ^= 1
    path.write_bytes(content)
    where = f"{shard.file} is damaged in record 2 .* byte {sum(records[:2])}: corrupted record at"
    with pytest.raises(ShardError, match=where), read_errors(directory):
        batches_of(directory)
    with pytest.raises(ShardError, match=f"{shard.file} has another checksum .*{where}"):
        verify(directory)


def test_damage_is_named_around_a_compiled_loop(generate):
    directory = generate(150).write("data")
    path = directory / Manifest.load(directory).shards[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    dataset = make_dataset(directory, "train", 10)

    @tf.function
    def count() -> tf.Tensor:
        total = 0.0
        for _, label, _ in dataset:
            total += tf.reduce_sum(label)
        return total

    with pytest.raises(ShardError, match=f"{path.name} is damaged"), read_errors(directory):
        count()


def test_other_errors_pass_through(generate):
    directory = generate(5).write("data")
    with pytest.raises(KeyError), read_errors(directory):
        raise KeyError("not of the reader")
    error = tf.errors.DataLossError(None, None, "corrupted record at 17")
    with pytest.raises(ShardError, match="every shard could be read"), read_errors(directory):
        raise error


def test_verify_reports_every_bad_shard(generate):
    directory = generate(50).write("data")
    verify(directory)
    first, second, third = (directory / s.file for s in Manifest.load(directory).shards)
    second.write_bytes(first.read_bytes() + b"\0" * (second.stat().st_size))
    first.unlink()
    with pytest.raises(ShardError) as caught:
        verify(directory)
    assert f"{first} is missing" in str(caught.value)
    assert f"{second} is too long" in str(caught.value)
    assert third.name not in str(caught.value)


def test_a_folder_that_was_not_prepared(tmp_path):
    with pytest.raises(ShardError, match="Not a prepared data set"):
        make_dataset(tmp_path, "train", 10)
