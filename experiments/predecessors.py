"""What a phase takes from another run: its teacher, or a model that goes on."""

from __future__ import annotations

from clsd_tf import ClickConfidenceModel, EMATeacher, StepCheckpoint, StoredScores
from clsd_tf.encoding import Encoder
from clsd_tf.growth import take_over
from clsd_tf.optimizers import build_optimizer
from experiments.models import build_ema_teacher, build_model, load_model
from experiments.objectives import build_objective
from experiments.phases import Phase
from experiments.runs import Run


def copy_teacher(phase: Phase) -> None:
    """Makes the student of another run the teacher of this one.

    Raises:
      ValueError: it does not fit.
    """
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


def go_on(phase: Phase, model: ClickConfidenceModel, encoder: Encoder) -> None:
    """Gives the model what the one of the same phase has learned in the run before."""
    config, before = phase.config, Run(phase.config.init_from)
    directory = before.directory / phase.name / "checkpoints"
    copied_from = before.config().teacher_dir
    if phase.name == "teacher" and copied_from:  # trained in another run, as its student
        directory = Run(copied_from).student / "checkpoints"
    smaller = Encoder.load(before.encoding)
    if phase.distribution.cluster.strategy == "parameter_server":
        raise ValueError(
            "What optimizers of parameter servers know of the parts of a table does not go on in "
            "another run. Received: --strategy=parameter_server with "
            f"--init_from={before.directory}. Choose another strategy, or train anew."
        )
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
