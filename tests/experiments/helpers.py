"""What tests of runs share: the scores of a model, and a process that is killed."""

from __future__ import annotations

import numpy as np

from clsd_tf import Encoder
from experiments import monitoring
from experiments.evaluation import score_split
from experiments.models import load_model
from experiments.runs import Run


def scores_of(run: Run, part: str = "student", split: str = "valid") -> np.ndarray:
    config = run.config()
    model = load_model(run, config, part=part)
    return score_split(model, Encoder.load(run.encoding), config.data_dir, split).scores


class Killed(Exception):
    pass


def kill_after(monkeypatch, steps: int) -> None:
    """Kills the process, as it were, after so many steps of all phases together."""
    original = monitoring.StepSummaries.on_train_batch_end
    left = [steps]

    def on_train_batch_end(self, batch, logs=None):
        original(self, batch, logs)
        left[0] -= 1
        if not left[0]:
            raise Killed

    monkeypatch.setattr(monitoring.StepSummaries, "on_train_batch_end", on_train_batch_end)
