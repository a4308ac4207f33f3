"""The phases of a run: teacher, its scores, students, one after the other. All resume."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import tf_keras as keras

from clsd_tf import ClickConfidenceModel, StepCheckpoint, StoredScores
from clsd_tf.encoding import Encoder
from clsd_tf.encoding_tables import copy_encoding
from data_pipeline.manifest import Manifest
from data_pipeline.progress import waiting
from data_pipeline.reader import make_dataset, read_errors, steps_per_epoch
from data_pipeline.served_batches import service_errors
from data_pipeline.service_client import InputService
from experiments.arms import get_arm
from experiments.learning_curve import FILE as CURVE
from experiments.learning_curve import LearningCurve
from experiments.model_size import parts_of_model
from experiments.models import build_ema_teacher, build_model, check_confidence, load_model
from experiments.monitoring import CurveLog, EpochLogs, ProgressBar, watchers
from experiments.objectives import (
    build_objective,
    further_labels,
    own_columns,
    without_satisfaction,
)
from experiments.phases import Phase, no_validation
from experiments.predecessors import copy_teacher, go_on
from experiments.runs import TEACHER_SEED, Run, TrainConfig
from experiments.scoring import score_with
from experiments.strategies import Distribution
from experiments.tensorboard_logs import write_projector


def train_run(
    run: Run,
    config: TrainConfig,
    *,
    checkpoint_steps: int,
    distribution: Distribution | None = None,
    details: bool = False,
    service: InputService | None = None,
) -> dict[str, dict]:
    """Trains the models of `config` in the directory of `run`, or goes on where it stopped.

    Args:
      run: where everything is kept; the same directory for all processes.
      config: what is trained.
      checkpoint_steps: batches between checkpoints.
      distribution: the processes that train, each of which calls this; None for this one alone.
      details: whether TensorBoard is to show more of the student than scalars and groups:
        hyperparameters and, of a student that one device trains, histograms of the confidence and
        the item embeddings.
      service: that reads the training rows; the same is learned with it and without.

    Returns:
      Phase -> what was logged in each of its epochs, and the confidence function as a table.

    Raises:
      ValueError: the data set has no training rows, or no validation rows where confidence or
        calibration are fitted on them; or the teacher of `teacher_dir` does not fit.
      ScoreError: the scores of `scores_dir` are not those of the rows.
      ShardError: a shard is damaged.
      InputServiceError: the service does not answer, or does not find the shards.
    """
    if config.init_from:
        Run(config.init_from).require_continuable(config)
    distribution = distribution or Distribution()
    if distribution.is_chief:
        copy_encoding(config.data_dir, run.encoding)
    distribution.agree(0)
    encoder = Encoder.load(run.encoding)
    check_confidence(config, encoder)
    results: dict[str, dict] = {}
    teacher_config = dataclasses.replace(config, seed=config.seed + TEACHER_SEED)

    def finish_teacher(phase: Phase) -> None:
        if not phase.is_done:
            if phase.name == "teacher" and config.teacher_dir:
                copy_teacher(phase)
            else:
                with distribution.strategy.scope():
                    model = build_model(phase.config, encoder)
                with read_errors(config.data_dir):
                    _fit(phase, model, encoder)
        results[phase.name] = phase.result

    def finish_student(phase: Phase, taught_by: Sequence[str] | None) -> None:
        if not phase.is_done:
            teacher = None
            if taught_by is not None:
                phase, teacher = _taught(phase, taught_by, encoder)
            with distribution.strategy.scope():
                objective = build_objective(config, encoder)
                model = build_model(phase.config, encoder, teacher, objective)
            with read_errors(config.data_dir):
                _fit(phase, model, encoder)
        results[phase.name] = phase.result

    def phase_of(
        name: str,
        config: TrainConfig,
        *,
        without_fold: tuple[int, int] | None = None,
        details: bool = False,
    ) -> Phase:
        return Phase(
            name,
            run,
            config,
            checkpoint_steps,
            without_fold=without_fold,
            details=details,
            distribution=distribution,
            service=service,
        )

    taught_by = None
    if get_arm(config.method).needs_teacher:
        teachers = _teacher_phases(teacher_config, phase_of)
        for phase in teachers:
            finish_teacher(phase)
        taught_by = [phase.name for phase in teachers]
    for generation in range(1, config.generations):
        seed = config.seed + (1 + generation) * TEACHER_SEED
        other = dataclasses.replace(config, seed=seed)
        phase = phase_of(f"generation_{generation}", other)
        finish_student(phase, taught_by)
        taught_by = [phase.name]
    finish_student(phase_of("student", config, details=details), taught_by)
    return results


def _teacher_phases(config: TrainConfig, phase_of: Callable[..., Phase]) -> list[Phase]:
    """The models that teach the first student; none if it follows itself, or scores are given."""
    if config.scores_dir or config.teacher == "ema":
        return []
    if config.teacher == "oof":
        folds = config.num_folds
        return [
            phase_of(f"fold_{fold}", config, without_fold=(fold, folds)) for fold in range(folds)
        ]
    return [phase_of("teacher", config)]


def _taught(
    phase: Phase, teachers: Sequence[str], encoder: Encoder
) -> tuple[Phase, keras.layers.Layer]:
    """The phase with what it is taught by: a model, or scores, which are written here."""
    run, config, distribution = phase.run, phase.config, phase.distribution
    if config.teacher == "ema":
        with distribution.strategy.scope():
            return phase, build_ema_teacher(config, encoder)
    if config.scores_dir:
        return dataclasses.replace(phase, scores=pathlib.Path(config.scores_dir)), StoredScores()
    if config.teacher != "oof":
        with distribution.strategy.scope():
            teacher = load_model(run, config, part=teachers[0])
        phase = dataclasses.replace(phase, teacher_clicks=teacher.progressive_clicks)
    if config.teacher == "frozen":
        return phase, teacher
    scores = _scores(run, phase.name)
    splits = ["train"] if config.teacher == "oof" else ["train", "valid"]
    if distribution.is_chief:
        score_with(run, config, teachers, splits, scores, config.data_dir)
    distribution.agree(0)
    return dataclasses.replace(phase, scores=scores), StoredScores()


def load_taught(run: Run, config: TrainConfig) -> tuple[ClickConfidenceModel, pathlib.Path | None]:
    """The student of a finished training, taught as its last step was.

    Returns:
      The model with teacher and confidence function, and the directory of the teacher's scores,
      if it is taught by stored ones.

    Raises:
      RuntimeError: the checkpoints are gone, or of another model.
    """
    encoder = Encoder.load(run.encoding)
    scores, teacher = None, None
    if config.teacher == "ema":
        teacher = build_ema_teacher(config, encoder)
    elif config.teacher == "frozen":
        last = f"generation_{config.generations - 1}" if config.generations > 1 else "teacher"
        teacher = load_model(run, config, part=last)
    else:
        scores, teacher = pathlib.Path(config.scores_dir or _scores(run, "student")), StoredScores()
    model = build_model(config, encoder, teacher, build_objective(config, encoder))
    StepCheckpoint(run.student / "checkpoints").restore(model)
    if config.teacher == "ema":
        teacher.catch_up(model.backbone)
    return model, scores


def _scores(run: Run, phase: str) -> pathlib.Path:
    """Where the scores that teach a phase are written."""
    return run.directory / "scores" / phase


def _fit(phase: Phase, model: ClickConfidenceModel, encoder: Encoder) -> None:
    """Trains a model to the end of its epochs, from its latest checkpoint if there is one."""
    config = phase.config
    rows = Manifest.load(config.data_dir).rows
    if not rows["train"]:
        raise ValueError(
            f"There is nothing to train on. Received: 0 training rows in {config.data_dir}. "
            "Expected: some; prepare the log with other days."
        )
    distribution = phase.distribution
    checkpoint = StepCheckpoint(phase.directory / "checkpoints", phase.checkpoint_steps)
    done = checkpoint.restore(model)
    if config.init_from and not done:
        go_on(phase, model, encoder)
    if model.confidence is not None and model.confidence.needs_held_out and not done:
        with waiting("Fitting the confidence function"):
            model.fit_confidence(phase.held_out())

    whole = steps_per_epoch(
        config.data_dir, "train", config.batch_size, without_fold=phase.without_fold
    )
    steps = max(1, round(phase.fraction * whole))
    logs = EpochLogs(phase.directory / "epochs.json")
    callbacks, bar = [checkpoint], contextlib.nullcontext()
    curve = LearningCurve(phase.directory / CURVE, done) if distribution.is_chief else None
    if curve is not None:
        bar = ProgressBar(phase.name, steps, config.epochs, done)
        watching = watchers(phase, model, encoder, done)
        callbacks = [bar, *watching, CurveLog(curve, steps, done), logs]
        callbacks.append(checkpoint)  # what is saved was logged before
    own, validation = own_columns(model, config), _validation(phase, rows)
    with bar, service_errors(phase.service, config.data_dir):
        for epoch in range(done // steps, config.epochs):
            done_in_epoch = max(0, done - epoch * steps)
            rest = distribution.batches(
                config.data_dir,
                "train",
                config.batch_size,
                num_shares=config.input_shares,
                checked=lambda rows: without_satisfaction(rows, encoder, own),
                seed=config.seed,
                epochs=epoch + 1,
                skip_batches=epoch * whole + done_in_epoch,
                extra_columns=(*own, *further_labels(model)),
                without_fold=phase.without_fold,
                scores=phase.scores,
                service=phase.service,
            )
            distribution.fit(
                model,
                rest,
                batches_at_once=phase.checkpoint_steps,
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=steps - done_in_epoch,
                callbacks=callbacks,
                **validation,
            )
    _finish(phase, model, encoder, logs.read(), curve)


def _validation(phase: Phase, rows: Mapping[str, int]) -> dict[str, object]:
    """Arguments of `fit` that validate after each epoch; none without validation rows."""
    if not rows.get("valid"):
        return {}
    config, distribution = phase.config, phase.distribution
    shares = distribution.strategy.num_replicas_in_sync if distribution.reads_shares else 1
    batch_size = _valid_batch_size(config)
    return {
        "validation_data": distribution.batches(
            config.data_dir, "valid", batch_size, num_shares=shares
        ),
        "validation_steps": steps_per_epoch(config.data_dir, "valid", batch_size),
    }


def _finish(
    phase: Phase,
    model: ClickConfidenceModel,
    encoder: Encoder,
    epochs: list[dict[str, float]],
    curve: LearningCurve | None,
) -> None:
    config = phase.config
    if phase.name == "student" and config.calibrate:
        if not Manifest.load(config.data_dir).rows.get("valid"):
            raise no_validation("Calibration is fitted")
        with waiting("Calibrating"):
            model.calibrate(make_dataset(config.data_dir, "valid", _valid_batch_size(config)))
    if phase.shows_values:
        write_projector(phase.run.logs / phase.name, model, encoder)
    parts = [dataclasses.asdict(part) for part in parts_of_model(model.learners)]
    result: dict[str, object] = {
        "epochs": epochs,
        "outputs": model.output_meaning,
        "parameters": parts,
    }
    if curve is not None:
        result["seconds"] = round(curve.seconds, 3)  # as finely as the curve
    if model.confidence is not None:
        result["confidence"] = model.confidence_table(encoder.group_names())
    phase.finish(model, result)


def _valid_batch_size(config: TrainConfig) -> int:
    """Larger batches than in training, since there is no step to take."""
    return max(config.batch_size, 4096)
