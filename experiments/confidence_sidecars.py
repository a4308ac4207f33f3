"""Confidences beside the shards of a data set: a TFRecord file for each shard, record by record.

A record is a tf.train.Example with a value of each column for each row of the shard's record, in
the order of its rows; where a row was not clicked, floats are NaN.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from clsd_tf.features import ROW
from data_pipeline.directories import whole_file
from data_pipeline.manifest import Manifest, ShardInfo
from data_pipeline.sharing import record_rows


def sidecar_path(directory: str | pathlib.Path, shard: ShardInfo) -> pathlib.Path:
    """Where the confidences of a shard are kept."""
    return pathlib.Path(directory) / f"{pathlib.Path(shard.file).stem}.confidences.tfrecord"


class SidecarWriter:
    """Cuts the rows of a split, which come in the order of its shards, into sidecars.

    Args:
      manifest: of the data set.
      split: of it.
      directory: where the files go; they appear one by one, each whole.
    """

    def __init__(self, manifest: Manifest, split: str, directory: str | pathlib.Path):
        self._shards = list(manifest.of_split(split))
        self._rows_of_record = record_rows(manifest)
        self._directory = pathlib.Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._waiting: list[Mapping[str, np.ndarray]] = []
        self.written: list[pathlib.Path] = []

    def add(self, values: Mapping[str, np.ndarray], rows: np.ndarray, clicked: np.ndarray) -> None:
        """Takes the next rows.

        Args:
          values: column -> float32 [rows].
          rows: int64 [rows]: `_row` of each, by which a reader can check that they are the same.
          clicked: bool [rows].
        """
        floats = {name: np.where(clicked, v, np.nan) for name, v in values.items()}
        self._waiting.append({ROW: rows, **floats})
        count = sum(len(part[ROW]) for part in self._waiting)
        while self._shards and count >= self._shards[0].rows:
            shard = self._shards.pop(0)
            joined = {
                name: np.concatenate([part[name] for part in self._waiting])
                for name in self._waiting[0]
            }
            self._write(shard, {name: array[: shard.rows] for name, array in joined.items()})
            self._waiting = [{name: array[shard.rows :] for name, array in joined.items()}]
            count -= shard.rows

    def _write(self, shard: ShardInfo, columns: Mapping[str, np.ndarray]) -> None:
        path = sidecar_path(self._directory, shard)
        with whole_file(path) as beside, tf.io.TFRecordWriter(str(beside)) as writer:
            for start in range(0, shard.rows, self._rows_of_record):
                part = slice(start, start + self._rows_of_record)
                writer.write(_example({name: array[part] for name, array in columns.items()}))
        self.written.append(path)


def _example(columns: Mapping[str, np.ndarray]) -> bytes:
    example = tf.train.Example()
    for name, values in columns.items():
        feature = example.features.feature[name]
        kind = feature.int64_list if name == ROW else feature.float_list
        kind.value.extend(values.tolist())
    return example.SerializeToString()
