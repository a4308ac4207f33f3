"""Finds damage in shards and says where it is: file, record, byte."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from data_pipeline.manifest import Manifest, ShardError, ShardInfo
from data_pipeline.shards import checksum

# A record is framed by its length, a checksum of that, and a checksum of its bytes.
_FRAME_BYTES = 8 + 4 + 4
_MEND = "Copy the data set again or prepare it with `--overwrite`."


def check_sizes(directory: str | pathlib.Path, shards: Sequence[ShardInfo]) -> None:
    """Compares each file with the size in the manifest; reads no record.

    Raises:
      ShardError: a shard is missing or cut short.
    """
    for shard in shards:
        path = pathlib.Path(directory) / shard.file
        if not path.is_file():
            raise ShardError(
                f"Shard {path} is missing. Received: no such file. Expected: {shard.bytes} bytes. "
                f"{_MEND}"
            )
        size = path.stat().st_size
        if size != shard.bytes:
            raise ShardError(
                f"Shard {path} is {'cut short' if size < shard.bytes else 'too long'}. "
                f"Received: {size} bytes. Expected: {shard.bytes} bytes. {_MEND}"
            )


def verify(directory: str | pathlib.Path) -> None:
    """Compares size and checksum of every shard with the manifest; reads every byte.

    Raises:
      ShardError: with all shards that differ and their first damaged record.
    """
    directory = pathlib.Path(directory)
    problems = []
    for shard in Manifest.load(directory).shards:
        try:
            check_sizes(directory, [shard])
        except ShardError as error:
            problems.append(str(error))
            continue
        if checksum(directory / shard.file) != shard.sha256:
            damage = find_damage(directory / shard.file)
            where = damage or "Every record can be read: the file is another one."
            problems.append(
                f"Shard {directory / shard.file} has another checksum than its manifest. {where}"
            )
    if problems:
        raise ShardError("\n".join(problems))


@contextlib.contextmanager
def read_errors(directory: str | pathlib.Path) -> Iterator[None]:
    """Names the damaged shard when reading fails inside, e.g. around `fit` or `evaluate`.

    TensorFlow reports damage without the file's name. Only then the shards are read again, one
    after the other, up to the first damaged record. Records that are whole and hold something else
    fail where they are parsed or counted, with an error that a model may raise too: it is passed on
    where every shard has the checksum of its manifest.

    Raises:
      ShardError: instead of `tf.errors.DataLossError`, and of others that damaged shards cause.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        directory = pathlib.Path(directory)
        for shard in Manifest.load(directory).shards:
            check_sizes(directory, [shard])
            if damage := find_damage(directory / shard.file):
                raise ShardError(f"{damage} {_MEND}") from error
        raise ShardError(
            f"Reading {directory} failed, but every shard could be read when it was tried again. "
            f"Received: {error.message}. Expected: files that stay the same; check the disk."
        ) from error
    # TensorFlow quotes records that it cannot parse, and fails to decode its own message.
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.FailedPreconditionError,
        UnicodeDecodeError,
    ) as error:
        try:
            verify(directory)
        except ShardError as damage:
            raise damage from error
        raise


def find_damage(path: str | pathlib.Path) -> str | None:
    """A sentence on the first damaged record of a shard, or None if all can be read."""
    offset, number = 0, 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            offset += _FRAME_BYTES + len(record)
            number += 1
    except tf.errors.DataLossError as error:
        # TensorFlow puts the name of the node before what happened and that of the op after it.
        cause = error.message.rsplit("}} ", 1)[-1].split(" [Op", 1)[0]
        return (
            f"Shard {path} is damaged in record {number} (counted from 0), which begins at byte "
            f"{offset}: {cause}."
        )
    return None
