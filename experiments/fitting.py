"""Trains the fits of a comparison, one after the other, and scores them."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tf_keras as keras

from clsd_tf import Encoder
from clsd_tf.batches import Features, logits_of
from clsd_tf.confidence import combine
from clsd_tf.features import GROUP, ROW, TEACHER_LOGIT, USER
from data_pipeline.cli import write_json
from data_pipeline.directories import whole_file
from data_pipeline.reader import make_dataset
from data_pipeline.service_client import InputService
from experiments.corrections import as_served
from experiments.evaluation import ScoredSplit, score_split
from experiments.fits import FitCache, teacher_config, trained_config
from experiments.models import load_model
from experiments.replaced_process import ReplacedProcess
from experiments.runs import Run, TrainConfig
from experiments.training import load_taught, train_run
from experiments.trusted import trust

_CHECKPOINT_STEPS = 1000
_CONFIDENCES = "confidences.parquet"
_SCORE, _CLICK, _CONFIDENCE = "_score", "_click", "_confidence"
_COLUMNS = {"scores": _SCORE, "labels": _CLICK, "users": USER, "groups": GROUP, "rows": ROW}


@dataclasses.dataclass(frozen=True)
class ClickConfidences:
    """Confidence of the clicks of the training split; arrays are [clicks].

    Attributes:
      confidence: in (0, 1].
      groups: index of the user group.
      rows: `_row`, which identifies an impression of the prepared log.
      satisfaction: post-click signals by name, NaN where missing.
      table: parameters of the function, see `ConfidenceFunction.table`.
    """

    confidence: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    satisfaction: dict[str, np.ndarray]
    table: list[dict[str, str | float]]


class Fitter:
    """Trains what is asked for, unless the cache holds it.

    Args:
      cache: of the fits.
      report: called with each fit that was trained, and the seconds that it took.
      service: that reads the training rows. Fits of a seed share an order: what one has read the
        next finds there, whatever command trains it.
      work: makes the calls that train and score.
    """

    def __init__(
        self,
        cache: FitCache,
        report: Callable[[TrainConfig, float], None],
        service: InputService | None = None,
        work: ReplacedProcess | None = None,
    ):
        """See the class."""
        self._cache, self._report, self._service = cache, report, service
        self._work = work or ReplacedProcess(cache.directory / "processes.log")

    def scored(self, config: TrainConfig, split: str) -> ScoredSplit:
        """Scores of a split, as the arm has them judged."""
        path = self._cache.scored_path(config, split)
        run = self._trained(config)
        if not path.exists():
            self._work(_score, run, config, split, path)
        return _scored(pq.read_table(path))

    def confidences(self, config: TrainConfig) -> ClickConfidences:
        """What the student of an arm with teacher and confidence was told of its clicks."""
        run = self._trained(config)
        columns = _columns(pq.read_table(run.directory / _CONFIDENCES))
        confidence, groups, rows = (columns.pop(name) for name in (_CONFIDENCE, GROUP, ROW))
        results = json.loads(run.results.read_text(encoding="utf-8"))
        table = results["metrics"]["student"]["confidence"]
        return ClickConfidences(confidence, groups, rows, columns, table)

    def _trained(self, config: TrainConfig) -> Run:
        config = trained_config(config)
        trust(config.backbone)
        run = self._cache.run(config)
        if run.is_finished:
            return run
        teacher = teacher_config(config)
        if teacher is not None:
            place = self._trained(teacher).directory.absolute()
            config = dataclasses.replace(config, teacher_dir=str(place))
        seconds = self._work(_train, run, config, self._service, sys.orig_argv)
        self._report(config, seconds)
        return run


def _train(
    run: Run, config: TrainConfig, service: InputService | None, command: list[str]
) -> float:
    """Trains a fit to its end, as `command` wants it; the seconds that it took."""
    with _one_of_many(config):
        run.begin(config, overwrite=False)
        started = time.monotonic()
        with _quiet(run.directory / "train.log"):
            phases = train_run(run, config, checkpoint_steps=_CHECKPOINT_STEPS, service=service)
        if "confidence" in config.options:
            _write(run.directory / _CONFIDENCES, _click_confidences(run, config))
        seconds = round(time.monotonic() - started, 1)
        results = {"command": command, "config": dataclasses.asdict(config)}
        write_json(run.results, {**results, "metrics": {**phases, "seconds": seconds}})
        for part in run.directory.glob("*/checkpoints"):  # to go on by: this is the end
            shutil.rmtree(part)
    return seconds


def _score(run: Run, config: TrainConfig, split: str, path: pathlib.Path) -> None:
    """Writes the scores of a split, as the arm has them judged."""
    with _one_of_many(config):
        model = load_model(run, run.config())
        encoder = Encoder.load(run.encoding)
        with _quiet(run.directory / "train.log"):
            scored = score_split(model, encoder, config.data_dir, split)
        _write(path, _table(as_served(scored, model, config)))


def _click_confidences(run: Run, config: TrainConfig) -> pa.Table:
    """Confidence of the training clicks, by the teacher and the function as training left them."""
    encoder = Encoder.load(run.encoding)
    model, scores = load_taught(run, config)
    signals = [column.name for column in encoder.spec.with_role("satisfaction")]
    kept: dict[str, list[np.ndarray]] = {n: [] for n in (_CONFIDENCE, GROUP, ROW, *signals)}
    dataset = make_dataset(
        config.data_dir, "train", 4096, shuffle=False, extra_columns=[*signals, ROW], scores=scores
    )
    inputs = [feature.name for feature in encoder.model_features]
    inputs += [TEACHER_LOGIT] if scores is not None else []

    @tf.function(reduce_retracing=True)
    def confidence_of(features: Features) -> tf.Tensor:
        logits = logits_of(model.teacher, {name: features[name] for name in inputs})
        return combine(*model.confidence(logits, features[GROUP]), alpha=model.alpha)

    for features, label, _ in dataset:
        clicked = label.numpy() == 1
        batch = {**features, _CONFIDENCE: confidence_of(features)}
        for name, parts in kept.items():
            parts.append(batch[name].numpy()[clicked])
    return pa.table({name: np.concatenate(parts) for name, parts in kept.items()})


@contextlib.contextmanager
def _quiet(path: pathlib.Path) -> Iterator[None]:
    """What a training says on standard error goes to a file beside it."""
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        yield


@contextlib.contextmanager
def _one_of_many(config: TrainConfig) -> Iterator[None]:
    """For a model that others come before and after in the same process."""
    # TensorFlow takes them for one model that is traced again and again.
    tf.get_logger().setLevel("ERROR")
    trust(config.backbone)
    yield
    keras.backend.clear_session()
    gc.collect()


def _table(scored: ScoredSplit) -> pa.Table:
    columns = {name: getattr(scored, field) for field, name in _COLUMNS.items()}
    return pa.table({**columns, **scored.satisfaction})


def _scored(table: pa.Table) -> ScoredSplit:
    columns = _columns(table)
    own = {field: columns.pop(name) for field, name in _COLUMNS.items()}
    return ScoredSplit(**own, satisfaction=columns)


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table.column_names}


def _write(path: pathlib.Path, table: pa.Table) -> None:
    """Writes a Parquet file, whole or not at all."""
    with whole_file(path) as beside:
        pq.write_table(table, beside)
