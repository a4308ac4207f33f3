"""The arms: ways of learning from the same clicks with the same backbone.

One registry serves `--method` of `clsd-train` and every comparison. A new arm is an entry here; one
that needs more than options of `ClickConfidenceModel` names an objective (`clsd_tf.denoising`). No
TensorFlow is imported, so that flags are checked at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Values = tuple[str | float, ...]

CONFIDENCES = ("global", "affine", "mixture", "multi_granularity")

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
      objective: name of the `clsd_tf` objective that takes the place of the model's own loss.
      method_options: what `--method_options` may set, all with defaults: arguments of the
        objective, or of the correction of scores.
      reads_satisfaction: whether a satisfaction column may reach its train steps.
      search: option -> values that a comparison tries, in addition to `LEARNING_RATES`; of a method
        option the default first.
      correction: what is done to the scores of a plain model, see `experiments.corrections`; such
        an arm is trained as the plain one.
      knows_rates: whether the arm is told the planted noise rates.
    """

    summary: str
    needs_teacher: bool = False
    options: Mapping[str, str | float] = dataclasses.field(default_factory=dict)
    objective: str | None = None
    method_options: tuple[str, ...] = ()
    reads_satisfaction: bool = False
    search: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    correction: Literal["group_offset", "interest"] | None = None
    knows_rates: bool = False

    def with_options(self, given: Mapping[str, str | float | None]) -> dict[str, str | float]:
        """The arm's options, with those of `given` that are not None in their place.

        Raises:
          ValueError: an option does nothing in this arm.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if unused := sorted(chosen.keys() - self.options.keys()):
            takes = ", ".join(f"--{name}" for name in self.options) or "none of them"
            raise ValueError(
                f"An option would do nothing with this method ({self.summary}). Received: "
                f"{', '.join(f'--{name}' for name in unused)}. Expected: {takes}. Leave it out, or "
                "choose another --method."
            )
        return {**self.options, **chosen}

    def with_method_options(self, given: Mapping[str, object]) -> dict[str, object]:
        """`given`, checked.

        Raises:
          ValueError: an option is not of this arm.
        """
        if unknown := sorted(given.keys() - set(self.method_options)):
            takes = ", ".join(self.method_options) or "none"
            raise ValueError(
                f"--method_options names what the method ({self.summary}) does not have. "
                f"Received: {', '.join(unknown)}. Expected: {takes}."
            )
        return dict(given)


_CLSD_OPTIONS: dict[str, str | float | None] = {
    "confidence": "mixture",
    "student": "soft",
    "alpha": None,  # that of the confidence function
    "distillation": 0.0,
    "temperature": 1.0,
}

ARMS: dict[str, Arm] = {
    "plain": Arm("clicks as they are"),
    "clsd": Arm(
        "clicks weighed or relabelled by self-distilled confidence (arXiv 2309.16322)",
        needs_teacher=True,
        options=_CLSD_OPTIONS,
    ),
    "distillation": Arm(
        "plain self-distillation, no confidence (arXiv 1805.04770)",
        needs_teacher=True,
        options={"distillation": 0.5, "temperature": 1.0},
        search={"distillation": (0.2, 0.5, 0.8), "temperature": (1.0, 2.0)},
    ),
    "t_ce": Arm(
        "clicks with the largest loss are dropped (arXiv 2006.04153)",
        objective="t_ce",
        method_options=("drop_rate", "ramp_steps"),
        search={"drop_rate": (0.1, 0.05, 0.2), "ramp_steps": (1000, 100)},
    ),
    "r_ce": Arm(
        "impressions weighed by the probability of their label (arXiv 2006.04153)",
        objective="r_ce",
        method_options=("beta",),
        search={"beta": (0.5, 0.1, 0.25, 1.0)},
    ),
    "decap_style": Arm(
        "agreement with a teacher, clicks explained by learned noise (arXiv 2105.09605)",
        needs_teacher=True,
        objective="decap_style",
        method_options=("agreement", "impossible_positive", "impossible_negative", "dim", "units"),
        search={
            "agreement": (0.5, 0.0, 1.0),
            "impossible_positive": (1.0, 10.0),
            "impossible_negative": (1.0, 10.0),
        },
    ),
    "pld_style": Arm(
        "clicks weighed by their loss among those of the user (arXiv 2502.00348)",
        objective="pld_style",
        method_options=("pool_size", "temperature", "warmup_steps", "num_slots"),
        search={"temperature": (0.1, 0.5, 1.0, 2.0), "pool_size": (5, 10)},
    ),
    "cleanlab_style": Arm(
        "clicks weighed by label quality under a teacher (arXiv 1911.00068)",
        needs_teacher=True,
        objective="cleanlab_style",
        method_options=("adjust",),
        search={"adjust": (False, True)},
    ),
    "shuffled": Arm(
        "control: clsd with confidences permuted among the clicks of a batch",
        needs_teacher=True,
        options=_CLSD_OPTIONS,
        objective="shuffled",
        method_options=("seed",),
    ),
    "group_offset": Arm(
        "control: plain, with noise rates of the groups taken out of its scores in evaluation",
        method_options=("rates",),
        correction="group_offset",
    ),
    "mixture_teacher": Arm(
        "control: plain, corrected for noise by group in evaluation, without a student",
        method_options=("rates",),
        correction="interest",
    ),
    "mixture_oracle_rates": Arm(
        "bound: clsd that is told the planted noise rates (--confidence_options)",
        needs_teacher=True,
        options=_CLSD_OPTIONS,
        knows_rates=True,
    ),
    "oracle": Arm(
        "bound: clicks weighed by a satisfaction column, which no other method reads "
        "(arXiv 2209.09000)",
        objective="oracle",
        method_options=("column", "signal"),
        reads_satisfaction=True,
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
