"""Lets the contenders of a comparison run in turns, so that all see the same machine."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable

from experiments.benchmarks.contenders import Comparison, Contender
from experiments.benchmarks.environments import python_of
from experiments.benchmarks.summaries import Outcome, outcome, sample
from experiments.benchmarks.worker_process import WORKERS, WorkerError, WorkerProcess


@dataclasses.dataclass(frozen=True)
class Measured:
    """A comparison and what came of it.

    Attributes:
      comparison: what was compared.
      samples: contender -> a sample for each round.
      info: contender -> what its worker told of itself.
      skipped: contender -> why it was not measured.
      outcomes: of the targets whose contenders were measured.
    """

    comparison: Comparison
    samples: dict[str, list[dict[str, float]]]
    info: dict[str, dict[str, object]]
    skipped: dict[str, str]
    outcomes: list[Outcome]


def measure(
    comparison: Comparison,
    *,
    repetitions: int,
    environments: pathlib.Path,
    logs: pathlib.Path,
    progress: Callable[[str], None],
) -> Measured:
    """Runs a comparison.

    Args:
      comparison: what to compare.
      repetitions: rounds in which every contender runs once.
      environments: directory of the peers' environments.
      logs: directory for what workers write to standard error.
      progress: called with what is being done.

    Returns:
      What was measured. A contender that fails is skipped with its reason, whenever it fails.
    """
    samples: dict[str, list[dict[str, float]]] = {}
    info: dict[str, dict[str, object]] = {}
    skipped: dict[str, str] = {}
    title = f"{comparison.stage}, {comparison.case}"
    with contextlib.ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        for contender in comparison.contenders:
            progress(f"{title}: preparing {contender.name}")
            try:
                worker = stack.enter_context(_start(contender, environments, logs / _slug(title)))
                info[contender.name] = worker.prepare(contender.options)
                workers[contender.name] = worker
            except (LookupError, WorkerError) as error:
                skipped[contender.name] = str(error)
        for number in range(-comparison.warm_up, repetitions):
            # Another one begins each round: what comes after a costly one finds warmer caches.
            order = [c for c in comparison.contenders if c.name in workers]
            shift = number % len(order) if order else 0
            for contender in order[shift:] + order[:shift]:
                round_name = f"round {number + 1}/{repetitions}" if number >= 0 else "warm-up"
                progress(f"{title}, {round_name}: {contender.name}")
                try:
                    answer = workers[contender.name].run(contender.steps)
                except WorkerError as error:
                    skipped[contender.name] = str(error)
                    workers.pop(contender.name)
                    samples.pop(contender.name, None)
                    continue
                if number >= 0:
                    samples.setdefault(contender.name, []).append(sample(answer))
    found = [outcome(target, samples) for target in comparison.targets]
    return Measured(comparison, samples, info, skipped, [o for o in found if o is not None])


def _start(contender: Contender, environments: pathlib.Path, logs: pathlib.Path) -> WorkerProcess:
    python = python_of(environments, contender.environment)
    script = WORKERS / f"{contender.worker}.py"
    return WorkerProcess(python, script, logs / f"{_slug(contender.name)}.log")


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
