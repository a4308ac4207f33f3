r"""Measures every stage beside what one would use instead, on the same rows and machine, in turns.

python -m experiments.benchmark --output_dir=benchmark --environments=environments
python -m experiments.benchmark --output_dir=benchmark --only=read,train --rows=200000
python -m experiments.benchmark --output_dir=benchmark_dcn --only=train --cases="dcn_v2, like" \
    --rows=200000 --repetitions=3

Leaves `table.md` and `results.json` in the output directory; the log and what is made of it stay
in `data/` there and are used again. A peer whose environment is absent is skipped with the reason;
`clsd-benchmark-environments` makes them. Costs are processor time, since wall time says little on a
machine that does other work too.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import signal
import sys
import time

from absl import flags

from data_pipeline.cli import run_main, write_results
from data_pipeline.progress import steps

STAGES = ("read", "train", "prepare", "serve", "memory", "startup", "growth")

_ONLY = flags.DEFINE_list("only", list(STAGES), f"Stages, by default all: {', '.join(STAGES)}.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Directory of table, results and data.")
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", None, "Of the peers; by default `environments` in the output directory."
)
_CASES = flags.DEFINE_string("cases", "", "Only the cases whose name holds this text.")
_ROWS = flags.DEFINE_integer("rows", 2_000_000, "Impressions.", 1000)
_CATEGORICAL = flags.DEFINE_integer("categorical", 20, "Columns of ids.", 2)
_NUMERIC = flags.DEFINE_integer("numeric", 6, "Columns of numbers.", 2)
_VOCABULARY = flags.DEFINE_integer("vocabulary", 100_000, "Ids of each column.", 10)
_HISTORY = flags.DEFINE_integer("history", 50, "Clicks kept of each user.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4096, "Impressions a step.", 1)
_STEPS = flags.DEFINE_integer(
    "steps",
    40,
    "Steps of training in a repetition; they share the cost of a call of `fit`.",
    1,
)
_REPETITIONS = flags.DEFINE_integer("repetitions", 5, "Rounds that count.", 1)
_GROWTH_ROWS = flags.DEFINE_list(
    "growth_rows",
    ["125000", "250000", "500000", "1000000"],
    "Rows of the logs by which growth is measured; memory takes the first and the last.",
)
flags.mark_flag_as_required("output_dir")


@flags.validator("only", message="must be names of stages: " + ", ".join(STAGES))
def _are_stages(names: list[str]) -> bool:
    return bool(names) and set(names) <= set(STAGES)


@flags.validator("growth_rows", message="must be rising numbers of rows, at least 1000.")
def _are_sizes(texts: list[str]) -> bool:
    try:
        sizes = [int(text) for text in texts]
    except ValueError:
        return False
    return len(sizes) > 1 and sizes == sorted(set(sizes)) and sizes[0] >= 1000


def main(argv: list[str]) -> None:
    """Measures by the flags."""
    del argv
    from experiments.benchmarks.click_log import LogSize
    from experiments.benchmarks.driver import Measured, measure
    from experiments.benchmarks.report import metrics, write_table
    from experiments.benchmarks.settings import Settings
    from experiments.benchmarks.stages.rates import measure_rates

    # Workers are stopped between their turns, and do not see that this process is gone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    output_dir = pathlib.Path(_OUTPUT_DIR.value).absolute()
    size = LogSize(
        _ROWS.value, _CATEGORICAL.value, _NUMERIC.value, _VOCABULARY.value, _HISTORY.value
    )
    settings = Settings(
        output_dir,
        size,
        _BATCH_SIZE.value,
        _STEPS.value,
        tuple(int(text) for text in _GROWTH_ROWS.value),
        _CASES.value,
    )
    environments = pathlib.Path(_ENVIRONMENTS.value or output_dir / "environments").absolute()
    logs = output_dir / "logs"
    stages = [stage for stage in STAGES if stage in _ONLY.value]
    measured: list[Measured] = []
    started = time.monotonic()
    with steps() as begin:
        begin("Rates of the machine")
        rates = measure_rates(settings, environments=environments, logs=logs, progress=begin)
        for stage in stages:
            begin(f"{stage}: data")
            module = importlib.import_module(f"experiments.benchmarks.stages.{stage}")
            for comparison in module.comparisons(settings, rates):
                if _CASES.value not in comparison.case:
                    continue
                measured.append(
                    measure(
                        comparison,
                        repetitions=_REPETITIONS.value,
                        environments=environments,
                        logs=logs,
                        progress=begin,
                    )
                )
                write_table(measured, output_dir / "table.md")  # what is there if it is stopped
    if not measured:
        raise ValueError(
            f"No case is left to measure. Received: --cases={_CASES.value}. Expected: a text that "
            f"a case of {', '.join(stages)} holds; leave --cases out for all."
        )
    print(output_dir / "table.md")
    config = {
        "stages": stages,
        **dataclasses.asdict(size),
        "batch_size": _BATCH_SIZE.value,
        "steps": _STEPS.value,
        "repetitions": _REPETITIONS.value,
        "growth_rows": settings.growth_rows,
        "rates": dataclasses.asdict(rates),
    }
    found = {"seconds": time.monotonic() - started, **metrics(measured)}
    write_results(output_dir / "results.json", config=config, metrics=found)


def cli() -> None:
    """Entry point of `clsd-benchmark`."""
    run_main(main)


if __name__ == "__main__":
    cli()
