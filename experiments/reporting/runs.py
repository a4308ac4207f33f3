"""What the files of runs, and of a comparison of them, say. No TensorFlow is imported."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

from experiments.learning_curve import FILE as CURVE
from experiments.learning_curve import read_curve
from experiments.runs import PHASE_RESULT, Run, TrainConfig

BASE_METHOD = "plain"


@dataclasses.dataclass(frozen=True)
class PhaseFacts:
    """A phase of a run.

    Attributes:
      name: "teacher", ..., "student".
      result: what came of it (`phase.json`).
      curve: loss by step, see `experiments.learning_curve`.
    """

    name: str
    result: dict
    curve: list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A finished run.

    Attributes:
      name: that no other run of the report has.
      run: its directory.
      config: what it was asked to do.
      phases: in the order in which they were done.
      seconds: that the training took; None if its results do not say.
    """

    name: str
    run: Run
    config: TrainConfig
    phases: list[PhaseFacts]
    seconds: float | None

    @property
    def student(self) -> PhaseFacts:
        """The last phase."""
        return self.phases[-1]


def read_runs(directories: Sequence[str]) -> list[RunFacts]:
    """Opens finished runs of the same data set.

    Raises:
      ValueError: one is not finished, is given twice, or was trained on other rows.
    """
    runs = [Run(directory) for directory in directories]
    places = collections.Counter(run.directory.resolve() for run in runs)
    if twice := [str(place) for place, times in places.items() if times > 1]:
        raise ValueError(f"Each run is given once. Received twice: {', '.join(twice)}.")
    names = short_names([run.directory for run in runs])
    facts = [_read(run, name) for run, name in zip(runs, names, strict=True)]
    first = facts[0]
    for other in facts[1:]:
        if other.config.data != first.config.data:
            raise ValueError(
                "A report is about one data set. Received: "
                f"{first.run.directory} of {first.config.data_dir} and {other.run.directory} of "
                f"{other.config.data_dir}, which hold other rows. Write one report for each."
            )
    return facts


def read_comparison(path: pathlib.Path) -> dict[str, dict]:
    """The `results.json` of a comparison.

    Raises:
      ValueError: it is something else.
    """
    if path.is_dir():
        path = path / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        results["metrics"]["summary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--comparison is not the result of a comparison. Received: {path} ({error!r}). "
            "Expected: the results.json of `clsd-compare`."
        ) from error
    return results


def short_names(directories: Sequence[pathlib.Path]) -> list[str]:
    """The last part of each path, or as many parts as tell all of them apart."""
    paths = [path.resolve() for path in directories]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def base_of(runs: Sequence[RunFacts]) -> RunFacts | None:
    """The run that others are compared with: the first plain one."""
    return next((facts for facts in runs if facts.config.method == BASE_METHOD), None)


def _read(run: Run, name: str) -> RunFacts:
    run.require_finished()
    results = json.loads(run.results.read_text(encoding="utf-8"))
    paths = sorted(run.directory.glob(f"*/{PHASE_RESULT}"), key=_order)
    phases = [
        PhaseFacts(
            path.parent.name,
            json.loads(path.read_text(encoding="utf-8")),
            read_curve(path.parent / CURVE),
        )
        for path in paths
    ]
    return RunFacts(name, run, run.config(), phases, results.get("metrics", {}).get("seconds"))


def _order(path: pathlib.Path) -> tuple[int, str]:
    """Teachers first, the student last."""
    name = path.parent.name
    kinds = ("teacher", "fold_", "generation_", "student")
    return next(place for place, kind in enumerate(kinds) if name.startswith(kind)), name
