"""What the student of a run was told of each click, row by row, for whoever else can use it."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from clsd_tf import ClickConfidenceModel, Encoder
from clsd_tf.batches import Features, logits_of
from clsd_tf.confidence import combine
from clsd_tf.features import GROUP, ROW, ColumnSpec
from clsd_tf.losses import click_weights
from data_pipeline.directories import whole_file
from data_pipeline.manifest import Manifest
from data_pipeline.progress import progress
from data_pipeline.reader import make_dataset
from data_pipeline.shards import keys_path
from experiments.confidence_sidecars import SidecarWriter
from experiments.id_names import id_names
from experiments.runs import Run, TrainConfig
from experiments.training import load_taught

# Columns beside the ids, the time and `_day` of a click.
TOLD = (
    "teacher_logit",
    "global_confidence",
    "local_confidence",
    "confidence",
    "label_used",
    "weight_used",
)
_BATCH_ROWS = 4096


def has_confidence(config: TrainConfig) -> bool:
    """Whether the run's student learned from confidences."""
    return "confidence" in config.options


def confidences_path(directory: str | pathlib.Path, split: str) -> pathlib.Path:
    """Where the confidences of a split are kept."""
    return pathlib.Path(directory) / f"{split}.parquet"


def write_confidences(
    run: Run, config: TrainConfig, split: str, directory: pathlib.Path
) -> pathlib.Path:
    """Writes one row for each click of a split, in the order of its shards, as Parquet.

    Columns: `_row` (identifies the impression of the prepared log), the raw user id, item id and
    timestamp, `_day`, `group` (its name), the columns of `TOLD`, and each scalar categorical
    feature, as text where its ids are names. The columns of `TOLD` go into TFRecord files as well,
    one for each shard (`experiments.confidence_sidecars`).

    Args:
      run: a finished one, of a method with a confidence function.
      config: of the run.
      split: of its data set.
      directory: where `<split>.parquet` and `<shard>.confidences.tfrecord` go.

    Returns:
      The path of the file.

    Raises:
      RuntimeError: the checkpoints of the run are gone.
      ScoreError: the run is taught by stored scores, and the split has none.
    """
    model, scores = load_taught(run, config)
    encoder = Encoder.load(run.encoding)
    manifest = Manifest.load(config.data_dir)
    dataset = make_dataset(
        config.data_dir, split, _BATCH_ROWS, shuffle=False, extra_columns=[ROW], scores=scores
    )
    columns = [c for c in encoder.spec.model_columns if _is_category(encoder, c)]
    kept: dict[str, list[np.ndarray]] = {n: [] for n in (ROW, GROUP, *TOLD)}
    kept |= {column.name: [] for column in columns}
    told_of = tf.function(lambda features: _told(model, features), reduce_retracing=True)
    rows = manifest.rows[split]
    sidecars = SidecarWriter(manifest, split, directory)
    with progress(f"Confidence of the clicks in {rows:,} rows of {split}", rows) as advance:
        for features, label, _ in dataset:
            clicked = label.numpy() == 1
            batch = {**features, **told_of(features)}
            for name, parts in kept.items():
                parts.append(batch[name].numpy()[clicked])
            told = {name: batch[name].numpy() for name in TOLD}
            sidecars.add(told, batch[ROW].numpy(), clicked)
            advance(len(clicked))
    arrays = {name: np.concatenate(parts) for name, parts in kept.items()}
    keys = pa.concat_tables(
        pq.read_table(keys_path(config.data_dir, shard.file)) for shard in manifest.of_split(split)
    )
    table = _of_rows(keys, arrays[ROW])
    table = table.append_column("group", _names(encoder.group_names(), arrays[GROUP]))
    for name in TOLD:
        table = table.append_column(name, pa.array(arrays[name]))
    for column in columns:
        if column.name not in table.column_names:
            values = _names(id_names(encoder, column), arrays[column.name])
            table = table.append_column(column.name, values)
    path = confidences_path(directory, split)
    with whole_file(path) as beside:
        pq.write_table(table, beside)
    return path


def _is_category(encoder: Encoder, column: ColumnSpec) -> bool:
    named = column.encoding in ("vocabulary", "identity", "buckets")
    return named and not column.is_list and column.role == "feature"


def _told(model: ClickConfidenceModel, features: Features) -> dict[str, tf.Tensor]:
    """The columns of `TOLD` for each row of a batch, as if it were a click."""
    inputs = {name: value for name, value in features.items() if name not in (ROW, GROUP)}
    logits = logits_of(model.teacher, inputs)  # StoredScores reads them from the features
    group, function = features[GROUP], model.confidence
    pooled, local = function(logits, group)
    confidence = combine(pooled, local, alpha=model.alpha)
    is_weight = model.student_loss.student == "weight"
    weight = tf.ones_like(confidence)
    if is_weight:
        weight = click_weights(
            tf.ones_like(confidence),
            confidence,
            mean_weight=model.mean_weight.mean,
            non_click_weights=function.non_click_weights(group),
        )
    emphasis = function.emphasis(logits, group)
    values = {
        "teacher_logit": logits,
        "global_confidence": pooled,
        "local_confidence": local,
        "confidence": confidence,
        "label_used": tf.ones_like(confidence) if is_weight else confidence,
        "weight_used": weight if emphasis is None else weight * emphasis,
    }
    return {name: tf.cast(value, tf.float32) for name, value in values.items()}


def _of_rows(keys: pa.Table, rows: np.ndarray) -> pa.Table:
    """The keys of rows, in their order."""
    places = keys[ROW].to_numpy()
    order = np.argsort(places, kind="stable")
    return keys.take(order[np.searchsorted(places, rows, sorter=order)])


def _names(names: list[str], ids: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(names, dtype=object)[ids], pa.string())
