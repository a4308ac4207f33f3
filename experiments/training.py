"""The phases of a run: train the teacher, fit the confidence, train the student. All resume."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import tensorflow as tf

from clsd_tf import ClickConfidenceModel, StepCheckpoint
from clsd_tf.encoding import Encoder, copy_encoding
from data_pipeline.cli import write_json
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset, steps_per_epoch
from experiments.arms import get_arm
from experiments.models import build_model, load_model, save_model
from experiments.monitoring import EpochLogs, ProgressBar, StepSummaries
from experiments.objectives import build_objective, own_columns, without_satisfaction
from experiments.runs import Run, TrainConfig

# Its presence says that a phase is done.
_RESULT = "phase.json"


@dataclasses.dataclass(frozen=True)
class Phase:
    """The training of one model of a run: "teacher" or "student"."""

    name: str
    run: Run
    config: TrainConfig
    checkpoint_steps: int

    @property
    def directory(self) -> pathlib.Path:
        """Where checkpoints, weights and the phase's result are kept."""
        return self.run.directory / self.name

    @property
    def result(self) -> dict[str, object] | None:
        """What came of the phase, or None until it is done."""
        path = self.directory / _RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def finish(self, model: ClickConfidenceModel, result: dict[str, object]) -> None:
        """Keeps the model, then says that the phase is done."""
        save_model(model, self.directory)
        write_json(self.directory / _RESULT, result)


def train_run(run: Run, config: TrainConfig, *, checkpoint_steps: int) -> dict[str, object]:
    """Trains the models of `config` in the directory of `run`, or goes on where it stopped.

    Returns:
      Phase -> what was logged in each of its epochs, and the confidence function as a table.

    Raises:
      ValueError: the data set has no training rows, or no validation rows where confidence or
        calibration are fitted on them; or the teacher of `teacher_dir` does not fit.
    """
    copy_encoding(config.data_dir, run.encoding)
    encoder = Encoder.load(run.encoding)
    results: dict[str, object] = {}
    teacher = None
    if get_arm(config.method).needs_teacher:
        phase = Phase("teacher", run, config, checkpoint_steps)
        if phase.result is None:
            _make_teacher(phase, encoder)
        teacher = load_model(run, config, part="teacher")
        results["teacher"] = phase.result
    phase = Phase("student", run, config, checkpoint_steps)
    if phase.result is None:
        student = build_model(config, encoder, teacher, build_objective(config, encoder))
        _fit(phase, student, encoder)
    results["student"] = phase.result
    return results


def _make_teacher(phase: Phase, encoder: Encoder) -> None:
    config = phase.config
    if config.teacher_dir is None:
        _fit(phase, build_model(config, encoder), encoder)
        return
    other = Run(config.teacher_dir)
    other.require_finished()
    for field in ("data", "backbone", "backbone_options"):
        mine, theirs = getattr(config, field), getattr(other.config(), field)
        if mine != theirs:
            raise ValueError(
                f"The teacher in {other.directory} is of another {field}. Received: {theirs}. "
                f"Expected: {mine}. Leave --teacher_dir out to train a teacher."
            )
    result = Phase("student", other, config, phase.checkpoint_steps).result
    phase.finish(load_model(other, other.config()), result)


def _fit(phase: Phase, model: ClickConfidenceModel, encoder: Encoder) -> None:
    """Trains a model to the end of its epochs, from its latest checkpoint if there is one."""
    config = phase.config
    rows = Manifest.load(config.data_dir).rows
    if not rows["train"]:
        raise ValueError(f"{config.data_dir} has no training rows. Prepare it with other days.")
    valid = _held_out(config) if rows.get("valid") else None
    checkpoint = StepCheckpoint(phase.directory / "checkpoints", phase.checkpoint_steps)
    done = checkpoint.restore(model)
    if model.confidence is not None and not done:
        _require(valid, "The confidence function is fitted")
        model.fit_confidence(valid)

    steps = steps_per_epoch(config.data_dir, "train", config.batch_size)
    logs = EpochLogs(phase.directory / "epochs.json")
    bar = ProgressBar(phase.name, steps, config.epochs, done)
    summaries = StepSummaries(phase.run.logs / phase.name, done)
    with bar:
        for epoch in range(done // steps, config.epochs):
            rest = make_dataset(
                config.data_dir,
                "train",
                config.batch_size,
                seed=config.seed,
                epochs=epoch + 1,
                skip_batches=max(done, epoch * steps),
                extra_columns=own_columns(model, config),
            )
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
        _require(valid, "Calibration is fitted")
        model.calibrate(valid)
    result: dict[str, object] = {"epochs": epochs, "outputs": model.output_meaning}
    if model.confidence is not None:
        result["confidence"] = model.confidence.table(encoder.group_names())
    phase.finish(model, result)


def _held_out(config: TrainConfig) -> tf.data.Dataset:
    """Validation rows: larger batches, since there is no step to take."""
    return make_dataset(config.data_dir, "valid", max(config.batch_size, 4096))


def _require(valid: tf.data.Dataset | None, what: str) -> None:
    if valid is None:
        raise ValueError(
            f"{what} on validation rows, and the data set has none. Received: valid = 0 rows. "
            "Prepare the log with a validation day (`split.valid_from`) or fraction."
        )
