"""The machine's own rates, by which floors are computed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np

from experiments.benchmarks.contenders import Comparison, Contender
from experiments.benchmarks.driver import measure
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings

_NAME = "machine"


def measure_rates(
    settings: Settings,
    *,
    environments: pathlib.Path,
    logs: pathlib.Path,
    progress: Callable[[str], None],
) -> MachineRates:
    """Measures products of the shape of a cross layer, and copies.

    Raises:
      RuntimeError: it failed.
    """
    width = 16 * settings.size.categorical
    shape = {"rows": settings.batch_size, "inner": width, "columns": width}
    comparison = Comparison("rates", _NAME, (Contender(_NAME, "machine_rates", shape, steps=10),))
    measured = measure(
        comparison, repetitions=5, environments=environments, logs=logs, progress=progress
    )
    if _NAME in measured.skipped:
        raise RuntimeError(f"The machine's rates: {measured.skipped[_NAME]}")
    samples = measured.samples[_NAME]
    flops, copied = (float(np.median([s[n] for s in samples])) for n in ("flops", "copied_bytes"))
    return MachineRates(flops, copied)
