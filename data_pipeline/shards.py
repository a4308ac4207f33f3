"""Writes the shards of a split: raw Arrow batches in, encoded TFRecord files and their keys out.

Rows keep their order: shard 0 holds the first run of them, and so on. Beside each shard,
`keys/<stem>.parquet` holds in the same order what an encoded row no longer tells: `_row`, the raw
user, item and timestamp under their column names, and `_day`.
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from clsd_tf.encoding import Encoder
from clsd_tf.features import ROW, ClickLogSpec
from data_pipeline.arrow_encoding import DAY, Observe, encode_table
from data_pipeline.manifest import Layout, ShardError, ShardInfo
from data_pipeline.shard_format import Serializer, shard_features

BLOCK_ROWS = 1024
# Rows encoded at a time: of more, each vocabulary stays in the cache for longer.
_CHUNK_BLOCKS = 64
# More would wait for the lock of Python, and each holds a chunk.
_MAX_THREADS = 8
# What the rows of each thread take, raw and encoded, about.
WRITER_BYTES = 200_000_000
_KEYS = "keys"


class _Chunk(NamedTuple):
    """Rows of a shard, given by its index."""

    shard: int
    rows: pa.Table


class _Encoded(NamedTuple):
    """The same, and the records that hold them."""

    shard: int
    rows: pa.Table
    records: list[bytes]


def write_split(
    batches: Iterable[pa.RecordBatch],
    directory: str | pathlib.Path,
    split: str,
    encoder: Encoder,
    *,
    rows: int,
    num_shards: int,
    layout: Layout = "columnar",
    block_rows: int = BLOCK_ROWS,
    progress: Callable[[int], None] | None = None,
    observe: Observe | None = None,
    threads: int | None = None,
) -> list[ShardInfo]:
    """Writes the rows of one split in the given order, in contiguous runs of nearly equal length.

    Args:
      batches: `_row`, the spec's encoded columns, user, item, timestamp, label, weight and
        satisfaction columns by name, and `_day`; of any size.
      directory: of the data set; made if it does not exist.
      split: "train", "valid" or "test".
      encoder: of the data set.
      rows: how many rows `batches` yields.
      num_shards: at most this many files; with fewer rows, one row a file.
      layout: see `data_pipeline.shard_format`.
      block_rows: rows in a columnar record.
      progress: called with the number of rows that were added.
      observe: see `encode_table`; called from several threads.
      threads: that encode rows; None: `default_threads`. Files do not depend on it.

    Returns:
      One entry a shard, in order; none if there are no rows.

    Raises:
      ShardError: `batches` yields another number of rows, or rows that cannot be encoded.
    """
    if num_shards < 1 or block_rows < 1 or rows < 0:
        raise ValueError(
            "`num_shards` and `block_rows` must be >= 1 and `rows` >= 0. Received: "
            f"num_shards={num_shards}, block_rows={block_rows}, rows={rows}."
        )
    serializer = Serializer(shard_features(encoder.spec), layout, block_rows)

    def encode(chunk: _Chunk) -> _Encoded:
        records = list(serializer(encode_table(chunk.rows, encoder, observe)))
        return _Encoded(chunk.shard, chunk.rows, records)

    threads = threads or default_threads()
    stream = _RowStream(batch for batch in batches if batch.num_rows)
    num_shards = min(num_shards, rows)
    places = [
        pathlib.Path(directory) / f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"
        for index in range(num_shards)
    ]
    lengths = [(i + 1) * rows // num_shards - i * rows // num_shards for i in range(num_shards)]
    chunks = (
        _Chunk(shard, table)
        for shard, length in enumerate(lengths)
        for table in stream.take(length, block_rows * _CHUNK_BLOCKS)
    )
    infos = []
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        # One stream for all shards: threads would have nothing to do at the end of each.
        encoded = _in_order(pool, encode, chunks, ahead=threads + 2)
        for shard, parts in itertools.groupby(encoded, key=lambda part: part.shard):
            path = places[shard]
            written = _write_shard(parts, path, encoder.spec, progress)
            infos.append(pool.submit(_shard_info, path, split, written))
        shards = [info.result() for info in infos]
    found = sum(shard.rows for shard in shards) + stream.remaining()
    if found != rows:
        raise ShardError(f"Split '{split}' was announced with {rows} rows. Received: {found}.")
    return shards


def default_threads() -> int:
    """How many threads encode rows, where nobody says: one for each processor, up to 8."""
    return min(os.cpu_count() or 1, _MAX_THREADS)


def _in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[_Chunk], _Encoded],
    chunks: Iterable[_Chunk],
    ahead: int,
) -> Iterator[_Encoded]:
    """Yields the results of chunks in their order, of which at most `ahead` are at work."""
    at_work: collections.deque[concurrent.futures.Future[_Encoded]] = collections.deque()
    for chunk in chunks:
        at_work.append(pool.submit(function, chunk))
        if len(at_work) > ahead:
            yield at_work.popleft().result()
    while at_work:
        yield at_work.popleft().result()


def _write_shard(
    parts: Iterable[_Encoded],
    path: pathlib.Path,
    spec: ClickLogSpec,
    progress: Callable[[int], None] | None,
) -> int:
    """Writes a shard and its keys beside their places and renames both when they are whole.

    Returns the number of rows.
    """
    keys = keys_path(path.parent, path.name)
    keys.parent.mkdir(parents=True, exist_ok=True)
    shard_beside, keys_beside = (p.with_name(p.name + ".tmp") for p in (path, keys))
    rows = 0
    schema = _keys_schema(spec)
    # Numbers hardly repeat: a dictionary of them is larger than they are, and dear to make.
    repeated = [field.name for field in schema if pa.types.is_string(field.type)]
    with (
        tf.io.TFRecordWriter(str(shard_beside)) as shard_writer,
        pq.ParquetWriter(keys_beside, schema, use_dictionary=repeated) as keys_writer,
    ):
        for part in parts:
            for record in part.records:
                shard_writer.write(record)
            keys_writer.write_table(part.rows.select(schema.names).cast(schema))
            rows += part.rows.num_rows
            if progress is not None:
                progress(part.rows.num_rows)
    os.replace(keys_beside, keys)
    os.replace(shard_beside, path)
    return rows


def _shard_info(path: pathlib.Path, split: str, rows: int) -> ShardInfo:
    return ShardInfo(path.name, split, rows, path.stat().st_size, checksum(path))


def keys_path(directory: str | pathlib.Path, shard: str) -> pathlib.Path:
    """Where the keys of the rows of a shard are kept."""
    return pathlib.Path(directory) / _KEYS / f"{pathlib.Path(shard).stem}.parquet"


def checksum(path: str | pathlib.Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _RowStream:
    """Record batches of any size, cut into tables at given numbers of rows."""

    def __init__(self, batches: Iterable[pa.RecordBatch]):
        self._batches = iter(batches)
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int, chunk_rows: int) -> Iterator[pa.Table]:
        """Yields the next `rows` rows in tables of at most `chunk_rows`; fewer at the end."""
        while rows > 0:
            parts = list(self._parts(min(rows, chunk_rows)))
            if not parts:
                return
            table = pa.Table.from_batches(parts)
            rows -= table.num_rows
            yield table

    def remaining(self) -> int:
        """Number of rows that were not taken; reads them."""
        rest = 0 if self._rest is None else self._rest.num_rows
        return rest + sum(batch.num_rows for batch in self._batches)

    def _parts(self, rows: int) -> Iterator[pa.RecordBatch]:
        while rows > 0:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                return
            part, rest = batch.slice(0, rows), batch.slice(rows)
            self._rest = rest if rest.num_rows else None
            rows -= part.num_rows
            yield part


def _keys_schema(spec: ClickLogSpec) -> pa.Schema:
    types = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}
    columns = (spec.user, spec.item, spec.timestamp)
    keys = [(column.name, types[column.type]) for column in columns]
    return pa.schema([(ROW, pa.int64()), *keys, (DAY, pa.string())])
