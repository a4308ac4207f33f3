"""How the cost of a stage grows with rows: the exponent of a fit of logarithms.

A step of training is a batch, whose cost knows nothing of the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from experiments.benchmarks.click_log import make_log, make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One for each stage."""
    del rates
    sizes = [dataclasses.replace(settings.size, rows=rows) for rows in settings.growth_rows]
    for stage, make in (("prepare", make_log), ("read", make_prepared)):
        options = {
            "stage": stage,
            "directories": [str(make(settings.data, size)) for size in sizes],
            "rows": [size.rows for size in sizes],
            "output_dir": str(settings.directory / "growth"),
        }
        yield Comparison(
            "growth",
            stage,
            (Contender(OURS, "own_growth", options),),
            (Target(OURS, None, 1.05, "at most", "exponent"),),
            unit="row",
        )
