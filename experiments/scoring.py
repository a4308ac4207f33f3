"""Scores that the models of a run leave beside the shards of their data set."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from clsd_tf import ClickConfidenceModel
from clsd_tf.batches import Features, logits_of
from data_pipeline.integrity import read_errors
from data_pipeline.manifest import Manifest
from data_pipeline.progress import progress
from data_pipeline.scores import ScoreManifest
from data_pipeline.scoring import Scorer, write_scores
from data_pipeline.shards import checksum
from experiments.models import load_model, weight_files
from experiments.runs import Run, TrainConfig


def score_with(
    run: Run,
    config: TrainConfig,
    parts: Sequence[str],
    splits: Sequence[str],
    output_dir: pathlib.Path,
    data_dir: str | pathlib.Path,
) -> ScoreManifest:
    """Scores splits with trained parts of a run, or goes on with it.

    Args:
      run: that holds the parts.
      config: of the run.
      parts: one part scores all rows; of several, each scores the rows of its fold.
      splits: of the data set.
      output_dir: where the scores go.
      data_dir: prepared data set, encoded like the run's.
    """
    files = [file for part in parts for file in weight_files(run.directory / part)]
    model = hashlib.sha256("".join(map(checksum, files)).encode()).hexdigest()
    scorers = [_scorer(load_model(run, config, part=part)) for part in parts]
    rows = sum(Manifest.load(data_dir).rows[split] for split in splits)
    with (
        progress(f"Scoring {rows:,} rows of {', '.join(splits)}", rows) as advance,
        read_errors(data_dir),
    ):
        return write_scores(data_dir, splits, output_dir, scorers, model=model, progress=advance)


def _scorer(model: ClickConfidenceModel) -> Scorer:
    @tf.function(reduce_retracing=True)
    def score(features: Features) -> tf.Tensor:
        return logits_of(model.backbone, features)

    return score
