"""Damaged data sets: the same rows as ever, or an error that names the file.

`CLSD_FUZZ=8` tries forty times as many shards as CI does, and prints how many those were.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from clsd_tf.encoding import Encoder
from data_pipeline.cli import sentence
from data_pipeline.integrity import check_sizes, verify
from data_pipeline.manifest import Manifest, ShardError
from data_pipeline.reader import make_dataset, read_errors
from tests.data_pipeline.test_bad_input import FUZZ, damaged, fuzzed

_FRAME = 16  # bytes of a record besides its own


def rows_of(dataset: tf.data.Dataset) -> list[np.ndarray]:
    return [values.numpy() for batch in dataset for values in tf.nest.flatten(batch)]


def damaged_shard(content: bytes, rng: random.Random, directory) -> bytes:
    """Shards as a bad disk, a broken copy or another program may leave them."""
    kind = rng.randrange(8)
    place = rng.randrange(len(content))
    if kind == 0:  # cut, as if by a copy that made room for the whole file first
        return content[:place] + b"\0" * (len(content) - place)
    if kind == 1:  # another checksum of the first record's length
        return content[:8] + rng.randbytes(4) + content[12:]
    if kind == 2:  # another checksum of the last record
        return content[:-4] + rng.randbytes(4)
    if kind == 3:  # whole records, of something else
        path = str(directory / "other.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(rng.randbytes(len(content) - _FRAME))
        return tf.io.read_file(path).numpy()
    if kind <= 5:
        flipped = content[place] ^ (1 << rng.randrange(8))
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    return damaged(content, rng)


@pytest.mark.parametrize("layout", ["columnar", "row"])
def test_shards(generate, tmp_path, layout):
    directory = generate(60).write("damaged", num_shards=1, layout=layout)
    (shard,) = Manifest.load(directory).shards
    path = directory / shard.file
    good = path.read_bytes()
    dataset = make_dataset(directory, "train", 32, shuffle=False, extra_columns=["_row"])
    expected = rows_of(dataset)
    tried = {"shards": 0, "refused": 0}

    @fuzzed((15 if layout == "columnar" else 10) * (1 if FUZZ == 1 else 5))
    @given(st.integers(0, 2**32))
    def check(seed):
        content = damaged_shard(good, random.Random(seed), tmp_path)
        path.write_bytes(content)
        tried["shards"] += 1
        try:
            with read_errors(directory):
                check_sizes(directory, [shard])  # as `make_dataset` does
                received = rows_of(dataset)
        except Exception as error:
            assert isinstance(error, ShardError), f"a traceback: {error!r}"
            assert shard.file in str(error)
            assert content != good
            tried["refused"] += 1
        else:
            for mine, other in zip(received, expected, strict=True):
                np.testing.assert_array_equal(mine, other)
        if content != good:
            with pytest.raises(ShardError, match=shard.file):
                verify(directory)

    check()
    assert tried["refused"] > 0.9 * tried["shards"]
    if FUZZ > 1:
        print(f"\n{layout}: {tried}")


def test_what_stands_beside_the_shards(generate):
    directory = generate(20).write("damaged", num_shards=1)
    files = ["manifest.json", "encoding.json", "spec.toml", "vocab/user_id.txt"]
    good = {name: (directory / name).read_bytes() for name in files}

    @fuzzed(40)
    @given(st.sampled_from(files), st.integers(0, 2**32))
    def check(name, seed):
        (directory / name).write_bytes(damaged(good[name], random.Random(seed)))
        try:
            Encoder.load(directory)
            check_sizes(directory, Manifest.load(directory).shards)
        except Exception as error:
            assert sentence(error), f"a traceback: {error!r}"
        (directory / name).write_bytes(good[name])

    check()
