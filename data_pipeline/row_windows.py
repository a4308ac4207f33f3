"""Records of shards -> windows of rows, in an order that follows from a seed."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import tensorflow as tf

from clsd_tf.features import LABEL, TEACHER_LOGIT, WEIGHT
from data_pipeline.manifest import Manifest
from data_pipeline.scores import checked_sidecars, decode_logits
from data_pipeline.shard_format import PACKED, ShardFeature, parse_blocks, parse_rows, unpack
from data_pipeline.sharing import ShardPart, record_rows

# Rows that are permuted together: as good as a full shuffle where rows were shuffled when written.
WINDOW_ROWS = 32768
_ROWS_AT_ONCE = 256
_OPEN_FILES = 8
_SERIALIZED = "_serialized"


class RowReader:
    """Reads a worker's rows window by window."""

    def __init__(
        self,
        directory: str | pathlib.Path,
        manifest: Manifest,
        share: Sequence[ShardPart],
        features: Sequence[ShardFeature],
        scores: str | pathlib.Path | None = None,
    ):
        self._columnar = manifest.layout == "columnar"
        self._record_rows = record_rows(manifest)
        self._at_once = max(1, _ROWS_AT_ONCE // self._record_rows)
        self._features = features
        place = pathlib.Path(directory).resolve()  # another process may have to find it
        files = {_SERIALIZED: [place / part.shard.file for part in share]}
        if scores is not None:
            sidecars = checked_sidecars(scores, [part.shard for part in share])
            files[TEACHER_LOGIT] = [path.resolve() for path in sidecars]
        self._identity = [
            [(name, *_fingerprint(path)) for name, paths in files.items() for path in paths],
            [(part.shard.sha256, part.first, part.every) for part in share],
            [(feature.name, feature.dtype, feature.length) for feature in features],
            # PACKED: trainers of a version that did not pack share no reading with this one.
            [manifest.layout, PACKED, WINDOW_ROWS, _ROWS_AT_ONCE, _OPEN_FILES],
        ]
        self._parts = (
            {name: tf.constant([*map(str, paths)], tf.string) for name, paths in files.items()},
            tf.constant([part.first for part in share], tf.int64),
            tf.constant([part.every for part in share], tf.int64),
        )

    @property
    def identity(self) -> list[object]:
        """What decides the rows, their columns and their order, beside a seed; values of JSON."""
        return self._identity

    def windows(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        """One pass. Windows are tables of parsed rows (columnar) or of serialized ones (row).

        Args:
          seed: int64 `[2]`, of the order of files and of the rows in each window; None: as written.
        """
        records, size = self._records(seed), max(1, WINDOW_ROWS // self._record_rows)
        # Records that come by themselves are moved into a batch; `rebatch` would copy them.
        records = records.batch(size) if self._at_once == 1 else records.rebatch(size)

        def window(number: tf.Tensor, table: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            if self._columnar:
                table |= parse_blocks(table.pop(_SERIALIZED), self._features)
            if TEACHER_LOGIT in table:
                table[TEACHER_LOGIT] = decode_logits(table[TEACHER_LOGIT])
            if seed is None:
                return table
            rows = tf.shape(tf.nest.flatten(table)[0])[0]
            order = _permutation(rows, tf.random.fold_in(seed, number))
            order = order[:, tf.newaxis]
            # `gather_nd` takes two thirds of the time of `gather`.
            return tf.nest.map_structure(lambda values: tf.gather_nd(values, order), table)

        return records.enumerate().map(window, num_parallel_calls=tf.data.AUTOTUNE)

    def to_table(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Parsed rows of a batch of what a window holds, in the dtypes of the columnar layout.

        Those of that layout are as `parse_blocks` returns them.
        """
        if self._columnar:
            return batch
        table = parse_rows(batch[_SERIALIZED], self._features)
        table = {f.name: tf.cast(table[f.name], f.dtype) for f in self._features}
        return table | {name: batch[name] for name in batch if name != _SERIALIZED}

    def to_example(
        self, batch: dict[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """(features, label, weight) of a batch, parsed or not."""
        table = self.to_table(batch) if _SERIALIZED in batch else batch
        if PACKED in table:
            table = unpack(table, self._features)
        features = {
            f.name: table[f.name] if f.is_float else tf.cast(table[f.name], tf.int64)
            for f in self._features
        }
        if TEACHER_LOGIT in batch:
            features[TEACHER_LOGIT] = batch[TEACHER_LOGIT]
        return features, tf.cast(features.pop(LABEL), tf.float32), features.pop(WEIGHT)

    def _records(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        """Serialized records; of few rows several to an element: taking each is what costs."""
        parts, cycle_length = self._parts, 1
        if seed is not None:
            order = _permutation(tf.size(parts[1]), seed)
            parts = tf.nest.map_structure(lambda values: tf.gather(values, order), parts)
            cycle_length = _OPEN_FILES
        # A record of many rows is read to where it stays; by way of a buffer it is copied twice.
        buffers = {_SERIALIZED: 0 if self._columnar else None, TEACHER_LOGIT: None}

        def records_of(
            paths: dict[str, tf.Tensor], first: tf.Tensor, every: tf.Tensor
        ) -> tf.data.Dataset:
            records = {
                name: tf.data.TFRecordDataset(path, buffer_size=buffers[name]).shard(every, first)
                for name, path in paths.items()
            }
            if self._at_once > 1:
                records = {name: each.batch(self._at_once) for name, each in records.items()}
            return tf.data.Dataset.zip(records)

        return tf.data.Dataset.from_tensor_slices(parts).interleave(
            records_of,
            cycle_length=cycle_length,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


def _permutation(size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(tf.range(size), seed)


def _fingerprint(path: pathlib.Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns
