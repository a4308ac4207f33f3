"""The arms: ways of learning from the same clicks with the same backbone.

One registry serves `--method` of `clsd-train` and every comparison. A new arm is an entry here; one
that needs more than options of `ClickConfidenceModel` names a factory of its own. No TensorFlow is
imported, so that flags are checked at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.evaluation import ScoredSplit
    from experiments.runs import Run

Values = tuple[str | float, ...]

# What a search tries in every arm. A grid, so that models of equal options are trained once: the
# teacher of an arm is the plain model of its learning rates.
LEARNING_RATES: Mapping[str, Values] = {
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "embedding_learning_rate": (0.01, 0.03, 0.1),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way of learning.

    Attributes:
      summary: one line for `--help`.
      needs_teacher: whether a model is trained first and frozen.
      options: of `ClickConfidenceModel`; flags override those that are named here, and no others,
        so that an arm does not become another one by a flag.
      search: option -> values that a comparison tries, in addition to `LEARNING_RATES`.
      adjust: what is done to the scores of a trained run before they are judged, if anything.
    """

    summary: str
    needs_teacher: bool = False
    options: Mapping[str, str | float] = dataclasses.field(default_factory=dict)
    search: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    adjust: Callable[[ScoredSplit, Run], ScoredSplit] | None = None

    def with_options(self, given: Mapping[str, str | float | None]) -> dict[str, str | float]:
        """The arm's options, with those of `given` that are not None in their place.

        Raises:
          ValueError: an option does nothing in this arm.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if unused := sorted(chosen.keys() - self.options.keys()):
            takes = ", ".join(f"--{name}" for name in self.options) or "none of them"
            raise ValueError(
                f"{', '.join(f'--{name}' for name in unused)} would do nothing here: the method "
                f"({self.summary}) takes {takes}. Leave it out, or choose another --method."
            )
        return {**self.options, **chosen}


ARMS: dict[str, Arm] = {
    "plain": Arm("clicks as they are"),
    "clsd": Arm(
        "clicks weighed or relabelled by self-distilled confidence (arXiv 2309.16322)",
        needs_teacher=True,
        options={
            "confidence": "global",
            "student": "weight",
            "alpha": 0.5,
            "distillation": 0.0,
            "temperature": 1.0,
        },
        search={
            "confidence": ("global", "affine"),
            "student": ("weight", "soft"),
            "alpha": (0.5, 1.0),
            "distillation": (0.0, 0.2),
        },
    ),
    "distillation": Arm(
        "plain self-distillation, no confidence (arXiv 1805.04770)",
        needs_teacher=True,
        options={"distillation": 0.5, "temperature": 1.0},
        search={"distillation": (0.2, 0.5, 0.8), "temperature": (1.0, 2.0)},
    ),
}


def get_arm(name: str) -> Arm:
    """The arm called `name`.

    Raises:
      ValueError: there is none.
    """
    if name not in ARMS:
        raise ValueError(f"Unknown method. Received: {name!r}. Expected one of: {', '.join(ARMS)}.")
    return ARMS[name]
