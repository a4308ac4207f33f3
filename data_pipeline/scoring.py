"""One scoring pass over a data set: shards in, a sidecar file of logits for each of them out."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline.directories import whole_file
from data_pipeline.manifest import Manifest, ShardInfo
from data_pipeline.reader import shard_batches
from data_pipeline.scores import ScoreError, ScoreFile, ScoreManifest, sidecar_path
from data_pipeline.shards import checksum
from data_pipeline.sharing import record_rows, worker_of

# Features of a batch -> logits float32 [batch].
Scorer = Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
_BATCH_ROWS = 4096


def write_scores(
    data_dir: str | pathlib.Path,
    splits: Sequence[str],
    output_dir: str | pathlib.Path,
    scorers: Sequence[Scorer],
    *,
    model: str,
    progress: Callable[[int], None] | None = None,
) -> ScoreManifest:
    """Writes the scores of whole splits, shard by shard; those that are there already are kept.

    Args:
      data_dir: prepared data set.
      splits: of it.
      output_dir: where sidecars go; made if need be.
      scorers: one scores all rows; of several, each scores the rows of its fold, that is those
        which the worker of its place would read (`data_pipeline.sharing`).
      model: identifies the scorers.
      progress: called with the number of rows that were scored, or were found.

    Raises:
      ScoreError: the directory holds the scores of another model, or a score is not finite.
    """
    manifest, output_dir = Manifest.load(data_dir), pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    scores = ScoreManifest.load(output_dir) or ScoreManifest(model)
    if scores.model != model:
        raise ScoreError(
            f"{output_dir} holds the scores of another model. Received: {scores.model}. Expected: "
            f"{model}. Choose another --output_dir, or remove the directory."
        )
    for split in splits:
        shards = manifest.of_split(split)
        for index, shard in enumerate(shards):
            if not _is_whole(scores, output_dir, shard):
                records = -(-shard.rows // record_rows(manifest))
                folds = [
                    worker_of(index, record, num_shards=len(shards), num_workers=len(scorers))
                    for record in range(records)
                ]
                logits = _score_shard(data_dir, shard, scorers, _per_row(folds, manifest, shard))
                entry = _write_sidecar(output_dir, shard, logits, record_rows(manifest))
                others = tuple(file for file in scores.files if file.shard != shard.file)
                scores = dataclasses.replace(scores, files=(*others, entry))
                scores.save(output_dir)
            if progress is not None:
                progress(shard.rows)
    return scores


def _is_whole(scores: ScoreManifest, directory: pathlib.Path, shard: ShardInfo) -> bool:
    entry = scores.of_shard(shard)
    if entry is None or not (directory / entry.file).is_file():
        return False
    return checksum(directory / entry.file) == entry.sha256


def _per_row(folds: Sequence[int], manifest: Manifest, shard: ShardInfo) -> np.ndarray:
    """The fold of each row of a shard, int [rows], from that of each record."""
    return np.repeat(folds, record_rows(manifest))[: shard.rows]


def _score_shard(
    data_dir: str | pathlib.Path, shard: ShardInfo, scorers: Sequence[Scorer], folds: np.ndarray
) -> np.ndarray:
    """Logits of the rows of a shard in their order, float32 [rows]."""
    logits, start = np.empty(shard.rows, "<f4"), 0
    for features in shard_batches(data_dir, shard, _BATCH_ROWS):
        rows = len(next(iter(features.values())))
        of_batch = folds[start : start + rows]
        for fold in np.unique(of_batch):
            chosen = np.flatnonzero(of_batch == fold)
            part = features
            if len(chosen) < rows:
                part = {name: tf.gather(values, chosen) for name, values in features.items()}
            logits[start + chosen] = scorers[fold](part)
        start += rows
    if not np.isfinite(logits).all():
        raise ScoreError(
            f"A score of shard {shard.file} is not finite. Received: "
            f"{logits[~np.isfinite(logits)][0]} at row {np.argmin(np.isfinite(logits))}. Find out "
            "where the model diverged; a lower learning rate may help."
        )
    return logits


def _write_sidecar(
    directory: pathlib.Path, shard: ShardInfo, logits: np.ndarray, rows_of_record: int
) -> ScoreFile:
    """Writes a sidecar beside its place and renames it when it is whole."""
    path = sidecar_path(directory, shard)
    with whole_file(path) as beside, tf.io.TFRecordWriter(str(beside)) as writer:
        for start in range(0, shard.rows, rows_of_record):
            writer.write(logits[start : start + rows_of_record].tobytes())
    return ScoreFile(path.name, shard.file, shard.sha256, shard.rows, checksum(path))
