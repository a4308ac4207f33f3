"""Whether an export answers raw rows as the trained model scores the prepared ones."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from clsd_tf import Encoder
from clsd_tf.features import ROW
from clsd_tf.requests import to_example
from data_pipeline.manifest import Manifest
from data_pipeline.progress import progress
from data_pipeline.raw_rows import dense_inputs, raw_batches, rows_of
from experiments.evaluation import ScoredSplit, score_split
from experiments.served import ServedModel

# Making Examples one by one is what costs: these many rows are sent as such, all as dense tensors.
EXAMPLE_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class Skew:
    """How far an export is from the trained model.

    Attributes:
      rows: that were compared.
      example_rows: those of them that were sent as `tf.train.Example`s too.
      largest_difference: of a served probability from the trained model's.
      largest_example_difference: the same of those sent as Examples.
      rows_that_differ: by more than what was allowed.
    """

    rows: int
    example_rows: int
    largest_difference: float
    largest_example_difference: float
    rows_that_differ: int


def score_encoded(
    export: str | pathlib.Path, encoder: Encoder, data_dir: str | pathlib.Path, split: str
) -> ScoredSplit:
    """Scores a split of a prepared data set through the export's `predict_encoded`."""
    return score_split(_Encoded(ServedModel(export)), encoder, data_dir, split)


def score_raw(
    export: str | pathlib.Path,
    data_dir: str | pathlib.Path,
    inputs: str | pathlib.Path,
    split: str,
    example_rows: int = EXAMPLE_ROWS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores a split of a raw log through the export.

    Args:
      export: path of a version.
      data_dir: data set that was prepared from the log.
      inputs: of the log.
      split: of its rows.
      example_rows: so many of the first rows are sent as Examples too.

    Returns:
      `_row` int64 [rows], probabilities float32 [rows], and those of the Examples.
    """
    served, encoder = ServedModel(export), Encoder.load(data_dir)
    numbers, scores, of_examples = [], [], []
    left = example_rows
    rows = Manifest.load(data_dir).rows.get(split, 0)
    with (
        raw_batches(data_dir, inputs, split) as batches,
        progress(f"Raw rows of {split} through the export", rows) as advance,
    ):
        for batch in batches:
            numbers.append(batch.column(ROW).to_numpy())
            scores.append(served.answer("predict_features", dense_inputs(batch, encoder)))
            if left > 0:
                sent_rows = rows_of(batch.slice(0, left), encoder)
                examples = [to_example(encoder.spec, row).SerializeToString() for row in sent_rows]
                of_examples.append(served.answer("serving_default", {"inputs": examples}))
                left -= len(sent_rows)
            advance(batch.num_rows)
    if not numbers:
        raise ValueError(
            f"Split '{split}' of the raw log has no rows to score. Received: 0 rows. Expected: the "
            "log that the data set was prepared from; mend --raw or --split."
        )
    sent = np.concatenate(of_examples) if of_examples else np.zeros(0, np.float32)
    return np.concatenate(numbers), np.concatenate(scores), sent


def compare_raw(
    export: str | pathlib.Path,
    trained: ScoredSplit,
    data_dir: str | pathlib.Path,
    inputs: str | pathlib.Path,
    split: str,
    allowed: float,
) -> tuple[ScoredSplit, Skew]:
    """Compares an export with the trained model, row by row.

    Args:
      export: path of a version.
      trained: the split as the trained model scores it.
      data_dir: data set that it was scored on.
      inputs: the raw log.
      split: of its rows.
      allowed: difference of a probability.

    Returns:
      The split as the export scores it, and how far that is from `trained`.

    Raises:
      ValueError: the raw log has other rows than the data set.
    """
    rows, scores, of_examples = score_raw(export, data_dir, inputs, split)
    if not np.array_equal(rows, trained.rows):
        raise ValueError(
            f"The raw log has other rows than {data_dir}. Received: {len(rows):,} rows of split "
            f"'{split}', of which {np.isin(rows, trained.rows).sum():,} are in the data set. "
            f"Expected: its {len(trained.rows):,} rows in the same order. Name the log that it was "
            "prepared from."
        )
    differences = np.abs(scores - trained.scores)
    example_differences = np.abs(of_examples - trained.scores[: len(of_examples)])
    # A score that is no number differs from all numbers.
    differs = ~(differences <= allowed)
    differs[: len(of_examples)] |= ~(example_differences <= allowed)
    served = dataclasses.replace(trained, scores=scores.astype(np.float64))
    return served, Skew(
        rows=len(rows),
        example_rows=len(of_examples),
        largest_difference=float(np.max(differences)),
        largest_example_difference=float(np.max(example_differences, initial=0.0)),
        rows_that_differ=int(differs.sum()),
    )


class _Encoded:
    """Scores model features by an export, as a trained model does."""

    def __init__(self, served: ServedModel):
        self._served = served

    def predict_on_batch(self, features: Mapping[str, tf.Tensor]) -> np.ndarray:
        return self._served.answer("predict_encoded", features)
