"""`experiments.train`, which also leaves what this process's replica holds of confidence.

Others see of a value that every replica has for itself what the chief has stored, or a mean. Here
each process writes its own, to `replica-<index>.npz`, at the end of the student's training.
"""

from __future__ import annotations

import numpy as np

from clsd_tf import ClickConfidenceModel
from experiments import train
from experiments.phases import Phase


def own_values(phase: Phase, model: ClickConfidenceModel) -> dict[str, np.ndarray]:
    """Variables of teacher and confidence, numbered, as this process has them."""
    layers = (model.teacher, model.confidence, model.mean_weight, model.progressive)
    variables = [variable for layer in layers for variable in layer.variables]
    local = phase.distribution.strategy.experimental_local_results
    return {f"{i} {v.name}": local(v)[0].numpy() for i, v in enumerate(variables)}


class ToldPhase(Phase):
    """A phase whose end every process tells of."""

    def finish(self, model: ClickConfidenceModel, result: dict[str, object]) -> None:
        if self.name == "student":
            index = self.distribution.cluster.index
            np.savez(f"replica-{index}.npz", **own_values(self, model))
        super().finish(model, result)


if __name__ == "__main__":
    from experiments import training

    training.Phase = ToldPhase
    train.cli()
