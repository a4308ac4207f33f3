"""What TensorBoard shows of a run beside scalars: hyperparameters, tables, item embeddings."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams

from clsd_tf import ClickConfidenceModel, Encoder
from clsd_tf.embeddings import embeddings_of
from data_pipeline.directories import whole_file
from experiments.id_names import id_names
from experiments.runs import TrainConfig

# The projector is drawn in a browser; a vocabulary begins with its most frequent tokens.
MAX_ITEMS = 10_000
_METRICS = ("valid/auc", "valid/loss")
# Paths and checksums tell runs apart, and say nothing about how they learn.
_NOT_SHOWN = ("data", "teacher_dir", "scores_dir", "init_from")


def hyperparameters(config: TrainConfig) -> dict[str, bool | int | float | str]:
    """The config as the HParams plugin takes it: options one by one, the rest as JSON."""
    flat: dict[str, object] = {}
    for name, value in dataclasses.asdict(config).items():
        if name not in _NOT_SHOWN:
            flat |= dict(value) if name == "options" else {name: value}
    plain = bool | int | float | str
    given = {name: value for name, value in flat.items() if value is not None}
    return {n: v if isinstance(v, plain) else json.dumps(v) for n, v in given.items()}


def write_hyperparameters(config: TrainConfig) -> None:
    """Writes them, and by which metrics runs are to be compared, to the default summary writer."""
    values = hyperparameters(config)
    hparams.hparams_config(
        hparams=[hparams.HParam(name) for name in values],
        metrics=[hparams.Metric(name) for name in _METRICS],
    )
    hparams.hparams(values)


def group_table(logs: Mapping[str, float], group_names: Sequence[str]) -> str:
    """The groups' values in the logs of an epoch, such as `val_auc_group_0`, as Markdown.

    Returns:
      A row for each group; "" where the logs have none.
    """
    columns = sorted({key.rpartition("_group_")[0] for key in logs if "_group_" in key})
    if not columns:
        return ""
    lines = [f"| group | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for group, name in enumerate(group_names):
        values = [logs.get(f"{column}_group_{group}", np.nan) for column in columns]
        lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |")
    return "\n".join(lines)


def write_projector(
    directory: pathlib.Path, model: ClickConfidenceModel, encoder: Encoder
) -> pathlib.Path | None:
    """Writes the vectors of the most frequent items with their names for the projector.

    Args:
      directory: of event files.
      model: a trained one.
      encoder: of its data.

    Returns:
      The path of the vectors; None where items have no vocabulary, or the backbone, one of the
      user's own, has no table of them.
    """
    item = encoder.spec.owner(encoder.spec.item)
    vectors = _table_of(model, item.name)
    if vectors is None or item.encoding != "vocabulary":
        return None
    names = id_names(encoder, item)[: len(vectors)]
    lines = ["\t".join(f"{value:.6g}" for value in vector) for vector in vectors]
    directory.mkdir(parents=True, exist_ok=True)
    path, metadata = directory / "item_vectors.tsv", directory / "item_names.tsv"
    _write_lines(path, lines)
    _write_lines(metadata, [_one_line(name) for name in names])
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = f"{item.name} (of the student)"
    embedding.tensor_path, embedding.metadata_path = path.name, metadata.name
    projector.visualize_embeddings(str(directory), config)
    return path


def _table_of(model: ClickConfidenceModel, table: str) -> np.ndarray | None:
    """The first rows of a column's table, float32 [ids, dim]."""
    for fused in embeddings_of(model.backbone):
        for variable, segments in zip(fused.embedding_variables, fused.segments, strict=True):
            if table in segments:
                first, rows = segments[table]
                return tf.gather(variable, tf.range(first, first + min(rows, MAX_ITEMS))).numpy()
    return None


def _one_line(name: str) -> str:
    return " ".join(name.split()) or "(blank)"


def _write_lines(path: pathlib.Path, lines: Sequence[str]) -> None:
    with whole_file(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
