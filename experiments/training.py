"""The phases of a run: teacher, its scores, students, one after the other. All resume."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf import (
    ClickConfidenceModel,
    EMATeacher,
    StepCheckpoint,
    StoredScores,
    get_confidence,
)
from clsd_tf.encoding import Encoder, copy_encoding
from clsd_tf.growth import take_over
from clsd_tf.online_confidence import online_confidence
from clsd_tf.optimizers import build_optimizer
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset, read_errors, steps_per_epoch
from experiments.arms import get_arm
from experiments.models import build_ema_teacher, build_model, load_model
from experiments.monitoring import EpochLogs, ProgressBar, StepSummaries
from experiments.objectives import (
    build_objective,
    further_labels,
    own_columns,
    without_satisfaction,
)
from experiments.phases import Phase, no_validation
from experiments.runs import TEACHER_SEED, Run, TrainConfig
from experiments.scoring import score_with


def train_run(run: Run, config: TrainConfig, *, checkpoint_steps: int) -> dict[str, object]:
    """Trains the models of `config` in the directory of `run`, or goes on where it stopped.

    Returns:
      Phase -> what was logged in each of its epochs, and the confidence function as a table.

    Raises:
      ValueError: the data set has no training rows, or no validation rows where confidence or
        calibration are fitted on them; or the teacher of `teacher_dir` does not fit.
      ScoreError: the scores of `scores_dir` are not those of the rows.
      ShardError: a shard is damaged.
    """
    if config.init_from:
        Run(config.init_from).require_continuable(config)
    copy_encoding(config.data_dir, run.encoding)
    encoder = Encoder.load(run.encoding)
    if "confidence" in config.options:  # mistaken options are told before a teacher is trained
        build = online_confidence if config.teacher == "ema" else get_confidence
        build(config.options["confidence"], encoder.num_groups, **config.confidence_options)
    results: dict[str, object] = {}
    teacher_config = dataclasses.replace(config, seed=config.seed + TEACHER_SEED)

    def finish_teacher(phase: Phase) -> None:
        if phase.result is None and phase.name == "teacher" and config.teacher_dir:
            _copy_teacher(phase)
        elif phase.result is None:
            with read_errors(config.data_dir):
                _fit(phase, build_model(phase.config, encoder), encoder)
        results[phase.name] = phase.result

    def finish_student(phase: Phase, taught_by: Sequence[str] | None) -> None:
        if phase.result is None:
            teacher = None
            if taught_by is not None:
                phase, teacher = _taught(phase, taught_by, encoder)
            objective = build_objective(config, encoder)
            with read_errors(config.data_dir):
                _fit(phase, build_model(phase.config, encoder, teacher, objective), encoder)
        results[phase.name] = phase.result

    taught_by = None
    if get_arm(config.method).needs_teacher:
        teachers = _teacher_phases(run, teacher_config, checkpoint_steps)
        for phase in teachers:
            finish_teacher(phase)
        taught_by = [phase.name for phase in teachers]
    for generation in range(1, config.generations):
        seed = config.seed + (1 + generation) * TEACHER_SEED
        other = dataclasses.replace(config, seed=seed)
        phase = Phase(f"generation_{generation}", run, other, checkpoint_steps)
        finish_student(phase, taught_by)
        taught_by = [phase.name]
    finish_student(Phase("student", run, config, checkpoint_steps), taught_by)
    return results


def _teacher_phases(run: Run, config: TrainConfig, checkpoint_steps: int) -> list[Phase]:
    """The models that teach the first student; none if it follows itself, or scores are given."""
    if config.scores_dir or config.teacher == "ema":
        return []
    if config.teacher == "oof":
        folds = config.num_folds
        return [
            Phase(f"fold_{fold}", run, config, checkpoint_steps, without_fold=(fold, folds))
            for fold in range(folds)
        ]
    return [Phase("teacher", run, config, checkpoint_steps)]


def _taught(
    phase: Phase, teachers: Sequence[str], encoder: Encoder
) -> tuple[Phase, keras.layers.Layer]:
    """The phase with what it is taught by: a model, or scores, which are written here."""
    run, config = phase.run, phase.config
    if config.teacher == "ema":
        return phase, build_ema_teacher(config, encoder)
    if config.scores_dir:
        return dataclasses.replace(phase, scores=pathlib.Path(config.scores_dir)), StoredScores()
    if config.teacher != "oof":
        teacher = load_model(run, config, part=teachers[0])
        phase = dataclasses.replace(phase, teacher_clicks=teacher.progressive_clicks)
    if config.teacher == "frozen":
        return phase, teacher
    scores = _scores(run, phase.name)
    splits = ["train"] if config.teacher == "oof" else ["train", "valid"]
    score_with(run, config, teachers, splits, scores, config.data_dir)
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


def _copy_teacher(phase: Phase) -> None:
    config = phase.config
    other = Run(config.teacher_dir)
    other.require_finished()
    # Who goes on may be taught by yesterday's model, to which today's rows are new.
    if config.init_from:
        other.require_same_encoding(config.data_dir)
    for field in ("backbone", "backbone_options", *([] if config.init_from else ["data"])):
        mine, theirs = getattr(config, field), getattr(other.config(), field)
        if mine != theirs:
            raise ValueError(
                f"The teacher in {other.directory} is of another {field}. Received: {theirs}. "
                f"Expected: {mine}. Leave --teacher_dir out to train a teacher."
            )
    result = Phase("student", other, config, phase.checkpoint_steps).result
    phase.finish(load_model(other, other.config()), result)


def _go_on(phase: Phase, model: ClickConfidenceModel, encoder: Encoder) -> None:
    """Gives the model what the one of the same phase has learned in the run before."""
    config, before = phase.config, Run(phase.config.init_from)
    directory = before.directory / phase.name / "checkpoints"
    copied_from = before.config().teacher_dir
    if phase.name == "teacher" and copied_from:  # trained in another run, as its student
        directory = Run(copied_from).student / "checkpoints"
    smaller = Encoder.load(before.encoding)
    if smaller.model_features == encoder.model_features:
        StepCheckpoint.restore_learned(model, directory)
        return
    teacher = None
    if isinstance(model.teacher, EMATeacher):
        teacher = build_ema_teacher(config, smaller)
    elif model.teacher is not None:
        teacher = StoredScores()  # of another teacher nothing goes on
    objective = None if model.objective is None else build_objective(config, smaller)
    old = build_model(config, smaller, teacher, objective)
    build_optimizer(old.optimizer, old.learners)
    StepCheckpoint.restore_learned(old, directory)
    take_over(old, model)


def _fit(phase: Phase, model: ClickConfidenceModel, encoder: Encoder) -> None:
    """Trains a model to the end of its epochs, from its latest checkpoint if there is one."""
    config = phase.config
    rows = Manifest.load(config.data_dir).rows
    if not rows["train"]:
        raise ValueError(f"{config.data_dir} has no training rows. Prepare it with other days.")
    valid = _valid(config) if rows.get("valid") else None
    checkpoint = StepCheckpoint(phase.directory / "checkpoints", phase.checkpoint_steps)
    done = checkpoint.restore(model)
    if config.init_from and not done:
        _go_on(phase, model, encoder)
    if model.confidence is not None and model.confidence.needs_held_out and not done:
        model.fit_confidence(phase.held_out())

    whole = steps_per_epoch(
        config.data_dir, "train", config.batch_size, without_fold=phase.without_fold
    )
    steps = max(1, round(phase.fraction * whole))
    logs = EpochLogs(phase.directory / "epochs.json")
    bar = ProgressBar(phase.name, steps, config.epochs, done)
    summaries = StepSummaries(phase.run.logs / phase.name, done)
    with bar:
        for epoch in range(done // steps, config.epochs):
            done_in_epoch = max(0, done - epoch * steps)
            rest = make_dataset(
                config.data_dir,
                "train",
                config.batch_size,
                seed=config.seed,
                epochs=epoch + 1,
                skip_batches=epoch * whole + done_in_epoch,
                extra_columns=(*own_columns(model, config), *further_labels(model)),
                without_fold=phase.without_fold,
                scores=phase.scores,
            ).take(steps - done_in_epoch)
            model.fit(
                without_satisfaction(rest, encoder, own_columns(model, config)),
                initial_epoch=epoch,
                epochs=epoch + 1,
                validation_data=valid,
                callbacks=[bar, summaries, logs, checkpoint],  # what is saved was logged before
                verbose=0,
            )
    _finish(phase, model, encoder, valid, logs.read())


def _finish(
    phase: Phase,
    model: ClickConfidenceModel,
    encoder: Encoder,
    valid: tf.data.Dataset | None,
    epochs: list[dict[str, float]],
) -> None:
    if phase.name == "student" and phase.config.calibrate:
        if valid is None:
            raise no_validation("Calibration is fitted")
        model.calibrate(valid)
    result: dict[str, object] = {"epochs": epochs, "outputs": model.output_meaning}
    if model.confidence is not None:
        result["confidence"] = model.confidence_table(encoder.group_names())
    phase.finish(model, result)


def _valid(config: TrainConfig) -> tf.data.Dataset:
    """Validation rows: larger batches, since there is no step to take."""
    return make_dataset(config.data_dir, "valid", max(config.batch_size, 4096))
