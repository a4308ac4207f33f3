"""What a training will do before it does it: data, size, memory, phases and time. Writes nothing.

Times come from a probe: a few steps of the very models on the very rows, in this process, for some
seconds. What they were measured with is part of the text.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator

import tensorflow as tf
import tf_keras as keras

from clsd_tf import ClickConfidenceModel, Encoder, StoredScores
from clsd_tf.features import TEACHER_LOGIT
from data_pipeline.manifest import Manifest
from data_pipeline.progress import steps as show_steps
from data_pipeline.reader import make_dataset, steps_per_epoch
from experiments.arms import get_arm
from experiments.learning_curve import FILE as CURVE
from experiments.learning_curve import read_curve
from experiments.model_size import (
    Part,
    float_bytes,
    optimizer_numbers,
    parts_of_model,
    total_parameters,
)
from experiments.models import build_ema_teacher, build_model, check_confidence
from experiments.objectives import build_objective, further_labels, own_columns
from experiments.runs import PHASE_RESULT, Run, TrainConfig
from experiments.training_plan import PlannedPhase, UnitCosts, plan_phases

# Seconds of steps that a probe takes of each model, and the most steps.
_PROBE_SECONDS, _PROBE_STEPS = 3.0, 200
_VALID_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a probe found.

    Attributes:
      costs: seconds.
      steps: that were timed.
      parts: of the student.
      peak_bytes: of the process, TensorFlow included.
    """

    costs: UnitCosts
    steps: int
    parts: list[Part]
    peak_bytes: int


def explain(run: Run, config: TrainConfig, strategy: str = "default") -> str:
    """What `train_run` would do, as text.

    Args:
      run: where it would go.
      config: of the run.
      strategy: what would train it, see `experiments.cluster`; the probe takes one device.

    Raises:
      ValueError: the training would stop: there are no rows, or options do not fit.
    """
    if config.init_from:
        Run(config.init_from).require_continuable(config)
    encoder = Encoder.load(config.data_dir)
    check_confidence(config, encoder)
    rows = Manifest.load(config.data_dir).rows
    if not rows.get("train"):
        raise ValueError(
            f"There is nothing to train on. Received: 0 training rows in {config.data_dir}. "
            "Expected: some; prepare the log with other days."
        )

    def steps_of(fold: tuple[int, int] | None) -> int:
        return steps_per_epoch(config.data_dir, "train", config.batch_size, without_fold=fold)

    phases = plan_phases(config, rows["train"], rows.get("valid", 0), steps_of)
    found = probe(config, encoder)
    lines = [
        *_about_run(run, config),
        *_about_data(config, encoder, rows, steps_of(None)),
        *_about_model(config, found.parts),
        *_about_memory(config, found, phases),
        *_about_time(run, found, phases, strategy),
    ]
    return "\n".join(lines)


def probe(config: TrainConfig, encoder: Encoder) -> Probe:
    """Takes some steps of the models of a config, and forgets them."""
    plain_step, begin, timed = None, 0.0, 0
    arm = get_arm(config.method)
    with show_steps() as say:
        plain = None
        if arm.needs_teacher:
            say("Probing steps without a teacher")
            plain = build_model(dataclasses.replace(config, epochs=1), encoder)
            plain_step, begin, timed = _time_steps(plain, config)
        say("Probing steps of the student")
        student = _student(config, encoder, plain)
        taught_step, student_begin, more = _time_steps(student, config)
        say("Probing a pass without training")
        row = _time_scoring(student if plain is None else plain, config)
    costs = UnitCosts(plain_step or taught_step, taught_step, row, max(begin, student_begin))
    return Probe(costs, timed + more, parts_of_model(student.learners), _peak_bytes())


def _student(
    config: TrainConfig, encoder: Encoder, plain: ClickConfidenceModel | None
) -> ClickConfidenceModel:
    """The student, taught by a model that was hardly trained; that costs the same."""
    objective = build_objective(config, encoder)
    if plain is None:
        return build_model(config, encoder, None, objective)
    teacher: keras.layers.Layer = plain.backbone
    if config.teacher == "ema":
        teacher = build_ema_teacher(config, encoder)
    elif config.teacher != "frozen":
        teacher = StoredScores()
    student = build_model(config, encoder, teacher, objective)
    if student.confidence is not None and student.confidence.needs_held_out:
        student.fit_confidence(plain.progressive_clicks)
    return student


class _Timer(keras.callbacks.Callback):
    """Stops a training after some seconds, counted from the end of its first step."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ends.append(time.perf_counter())
        if self.ends[-1] - self.ends[0] > _PROBE_SECONDS:
            self.model.stop_training = True


def _time_steps(model: ClickConfidenceModel, config: TrainConfig) -> tuple[float, float, int]:
    """Seconds of a step, seconds until the first one is done, and how many were timed."""
    dataset = make_dataset(
        config.data_dir,
        "train",
        config.batch_size,
        seed=config.seed,
        extra_columns=(*own_columns(model, config), *further_labels(model)),
    )
    if isinstance(model.teacher, StoredScores):
        dataset = dataset.map(_with_scores)
    timer, started = _Timer(), time.perf_counter()
    model.fit(dataset.take(_PROBE_STEPS), callbacks=[timer], verbose=0)
    first, steps = timer.ends[0], len(timer.ends) - 1
    # A data set of a single batch has but the first step to go by.
    step = (timer.ends[-1] - first) / steps if steps else first - started
    return step, first - started, max(1, steps)


def _with_scores(features: dict, label: tf.Tensor, weight: tf.Tensor) -> tuple:
    return {**features, TEACHER_LOGIT: tf.zeros_like(label)}, label, weight


def _time_scoring(model: ClickConfidenceModel, config: TrainConfig) -> float:
    """Seconds that a row takes without training."""
    rows = make_dataset(config.data_dir, "train", max(config.batch_size, _VALID_ROWS))
    batches = [(features, label) for features, label, _ in rows.take(2)]
    seconds = []
    for features, label in (batches[-1], *batches):
        started = time.perf_counter()
        model.test_on_batch(features, label)
        seconds.append((time.perf_counter() - started) / len(label))
    return min(seconds[1:])  # graphs are built in the first


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _about_run(run: Run, config: TrainConfig) -> Iterator[str]:
    yield f"Run      {run.directory}: {_state(run, config)}"


def _state(run: Run, config: TrainConfig) -> str:
    if not run.directory.exists() or not any(run.directory.iterdir()):
        return "new"
    try:
        differences = config.differences(run.config())
    except ValueError:
        return "holds something that is no run; training would stop. Choose another --model_dir"
    if differences:
        names = ", ".join(differences)
        return f"holds a run of other {names}; training would stop, unless given --overwrite"
    return "is finished; nothing is trained again" if run.is_finished else "goes on"


def _about_data(
    config: TrainConfig, encoder: Encoder, rows: dict[str, int], steps: int
) -> Iterator[str]:
    yield (
        f"Data     {config.data_dir} ({encoder.spec.name}): "
        + ", ".join(f"{count:,} rows of {split}" for split, count in rows.items())
    )
    yield (
        f"         {steps:,} batches of {config.batch_size:,} in an epoch, {config.epochs} "
        f"epoch{'s' * (config.epochs != 1)}; {encoder.num_groups} user groups"
    )


def _about_model(config: TrainConfig, parts: list[Part]) -> Iterator[str]:
    total = total_parameters(parts)
    yield f"Model    {config.backbone}: {total:,} parameters, {_bytes(float_bytes(total))}"
    width = max(len(part.name) for part in parts)
    for part in parts:
        shape = f"{part.shape[0]:,} x {part.shape[1]}" if part.shape else ""
        yield f"         {part.kind:5}  {part.name:{width}}  {shape:>16}  {part.parameters:>14,}"


def _about_memory(config: TrainConfig, found: Probe, phases: list[PlannedPhase]) -> Iterator[str]:
    total = total_parameters(found.parts)
    kept = optimizer_numbers(found.parts, config.optimizer)
    has_teacher = get_arm(config.method).needs_teacher and config.teacher in ("frozen", "ema")
    teacher = total if has_teacher else 0
    told = [_bytes(float_bytes(numbers)) for numbers in (total, kept, teacher)]
    yield (
        f"Memory   {_bytes(float_bytes(total + kept + teacher))} for the student's parameters "
        f"({told[0]}), its optimizer ({told[1]}) and its teacher ({told[2]})"
    )
    yield (
        f"         {_bytes(found.peak_bytes)} at its peak was all that the probe's process took, "
        "with TensorFlow, batches and activations"
    )
    trained = sum(phase.steps > 0 for phase in phases)
    disk = trained * (2 * float_bytes(total + kept) + float_bytes(total))
    yield f"Disk     about {_bytes(disk)}: weights and two checkpoints of each trained model"


def _about_time(run: Run, found: Probe, phases: list[PlannedPhase], strategy: str) -> Iterator[str]:
    yield "Phases"
    whole = 0.0
    width = max(len(phase.name) for phase in phases)
    for phase in phases:
        place = run.directory / phase.name
        curve = read_curve(place / CURVE)
        is_done = (place / PHASE_RESULT).exists()
        done = int(curve[-1]["step"]) if curve else 0
        seconds = 0.0 if is_done else phase.seconds(found.costs, done)
        whole += seconds
        note = "done" if is_done else _duration(seconds)
        note += f" ({done:,} steps are done)" if done and not is_done else ""
        amount = f"{phase.steps:,} steps" if phase.steps else f"{phase.rows:,} rows"
        if phase.steps or phase.rows:
            note += f": {amount}"
        yield f"         {phase.name:{width}}  {note}; {phase.what}"
    costs = found.costs
    yield f"Time     about {_duration(whole)} in all. Not in it: `clsd-evaluate`, `clsd-export`"
    yield (
        f"         by a probe of {found.steps} steps on this machine, now: "
        f"{1000 * costs.plain_step:.1f} ms a step without a teacher, "
        f"{1000 * costs.taught_step:.1f} ms a step of the student, "
        f"{1e6 * costs.row:.1f} us a row of validation or scoring, "
        f"{costs.begin:.1f} s before each phase's first step"
    )
    if strategy != "default":
        yield f"         as if one device did it all; --strategy={strategy} was not tried"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
