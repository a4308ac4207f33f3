"""Peak memory of `clsd-prepare` and `clsd-train` on a small log and a large one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from experiments.benchmarks.click_log import make_log, make_prepared
from experiments.benchmarks.contenders import Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One for each command; the sizes are the first and the last of `growth_rows`."""
    del rates
    sizes = [
        dataclasses.replace(settings.size, rows=rows)
        for rows in (settings.growth_rows[0], settings.growth_rows[-1])
    ]
    small, large = (f"{size.rows:,} rows" for size in sizes)
    target = Target(large, small, 1.3, "at most", "peak_mb")
    for stage in ("prepare", "train"):
        if settings.cases not in stage:  # its data would take long to make
            continue
        contenders = []
        for size in sizes:
            output = settings.directory / "memory" / f"{stage}_{size.rows}"
            output.parent.mkdir(parents=True, exist_ok=True)
            if stage == "prepare":
                log = make_log(settings.data, size)
                module, flags = (
                    "data_pipeline.prepare",
                    [
                        f"--spec={log / 'spec.toml'}",
                        f"--input={log}",
                        f"--output_dir={output}",
                        "--memory_limit=1GB",
                    ],
                )
            else:
                module, flags = (
                    "experiments.train",
                    [
                        f"--data_dir={make_prepared(settings.data, size)}",
                        f"--model_dir={output}",
                        "--method=plain",
                        f"--batch_size={settings.batch_size}",
                    ],
                )
            options = {
                "arguments": ["-P", "-m", module, *flags],
                "examples": size.rows,
                "remove": str(output),
            }
            contenders.append(Contender(f"{size.rows:,} rows", "command_worker", options))
        yield Comparison("memory", stage, tuple(contenders), (target,), unit="row", warm_up=0)
