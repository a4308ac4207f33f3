"""What a training will do, phase by phase, and how long that takes by what one step costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from experiments.arms import get_arm
from experiments.runs import TrainConfig


@dataclasses.dataclass(frozen=True)
class UnitCosts:
    """Seconds that were measured, or None of what was not.

    Attributes:
      plain_step: a training step without a teacher.
      taught_step: a training step with teacher, confidence and objective.
      row: scoring a row, in validation or for a teacher's stored scores.
      begin: until the first step of a phase is done: graphs are built in it.
    """

    plain_step: float
    taught_step: float
    row: float
    begin: float


@dataclasses.dataclass(frozen=True)
class PlannedPhase:
    """A phase of a run.

    Attributes:
      name: as in the run's directory; "scores of ..." for stored scores.
      what: in words.
      steps: training steps in all epochs.
      rows: that are scored: validation rows in each epoch, or all rows of stored scores.
      is_taught: whether its steps have a teacher.
    """

    name: str
    what: str
    steps: int = 0
    rows: int = 0
    is_taught: bool = False

    def seconds(self, costs: UnitCosts, done: int = 0) -> float:
        """How long it takes when `done` of its steps were taken before."""
        step = costs.taught_step if self.is_taught else costs.plain_step
        begin = costs.begin if self.steps else 0.0
        return begin + max(0, self.steps - done) * step + self.rows * costs.row


def plan_phases(
    config: TrainConfig,
    train_rows: int,
    valid_rows: int,
    steps_of: Callable[[tuple[int, int] | None], int],
) -> list[PlannedPhase]:
    """The phases of a run in the order in which they are done (`experiments.training`).

    Args:
      config: of the run.
      train_rows: of the data set.
      valid_rows: of the data set.
      steps_of: batches of an epoch without a fold (fold, number of folds), or of all rows.
    """
    epochs, whole = config.epochs, steps_of(None)
    valid = valid_rows * epochs
    arm = get_arm(config.method)
    phases = []
    if arm.needs_teacher and config.teacher == "oof":
        for fold in range(config.num_folds):
            steps = epochs * steps_of((fold, config.num_folds))
            what = f"plain training without fold {fold + 1} of {config.num_folds}"
            phases.append(PlannedPhase(f"fold_{fold}", what, steps, valid))
    elif arm.needs_teacher and config.teacher_dir:
        phases.append(PlannedPhase("teacher", f"copied from {config.teacher_dir}"))
    elif arm.needs_teacher and config.teacher in ("frozen", "scores") and not config.scores_dir:
        share = config.teacher_fraction
        steps = epochs * max(1, round(share * whole))
        what = "plain training of another seed"
        what += f", on {share:.0%} of the batches" if share < 1.0 else ""
        phases.append(PlannedPhase("teacher", what, steps, valid))
    students = [f"generation_{n}" for n in range(1, config.generations)] + ["student"]
    stored = config.teacher in ("scores", "oof") and not config.scores_dir
    for name in students:
        if arm.needs_teacher and stored:
            rows = train_rows + (0 if config.teacher == "oof" else valid_rows)
            phases.append(PlannedPhase(f"scores of {name}", "what the teacher thinks", rows=rows))
        what = f"{config.method}: {arm.summary}"
        phases.append(PlannedPhase(name, what, epochs * whole, valid, arm.needs_teacher))
    return phases
