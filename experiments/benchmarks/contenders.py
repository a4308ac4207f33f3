"""What is compared: contenders, and targets for the ratios of what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

OURS = "clsd_tf"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A worker process and what it is asked to do.

    Attributes:
      name: in tables.
      worker: file in `workers/`, without its ending.
      options: for its "prepare".
      environment: see `experiments.benchmarks.environments`; None for this project's own.
      steps: in a repetition.
    """

    name: str
    worker: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    environment: str | None = None
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound for the ratio of two contenders in one measure, or of one to a number.

    Attributes:
      over: name of the contender whose measure is divided.
      under: name of the contender by whose measure it is divided; None: by 1.
      bound: of the ratio.
      kind: "at least" or "at most"; "none" for a ratio that is shown without a target.
      measure: see `Sample`.
      scale: the ratio is multiplied by it, so that other units may be shown.
    """

    over: str
    under: str | None
    bound: float = 0.0
    kind: Literal["at least", "at most", "none"] = "none"
    measure: str = "cpu_us"
    scale: float = 1.0

    def __str__(self) -> str:
        """As a heading of a table."""
        text = f"{self.measure}: {self.over}" + (f" / {self.under}" if self.under else "")
        return text if self.kind == "none" else f"{text} {self.kind} {self.bound:g}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Contenders that run in turns.

    Attributes:
      stage: "read", "train", ...
      case: what of the stage.
      contenders: that run in turns.
      targets: for their ratios.
      unit: what an example is.
      floors: name -> CPU microseconds an example below which it cannot be done.
      warm_up: rounds before, which do not count: they load, compile and fill caches.
    """

    stage: str
    case: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    unit: str = "example"
    floors: dict[str, float] = dataclasses.field(default_factory=dict)
    warm_up: int = 1
