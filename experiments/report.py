r"""Writes a report of finished runs that one looks at: one HTML page, which needs no network.

python -m experiments.report runs/plain runs/clsd
python -m experiments.report runs/plain runs/clsd --comparison=comparison/results.json
python -m experiments.report runs/clsd --split=test --output_dir=reports/clsd

What was trained on, metrics with intervals against the plain run, per group; reliability;
confidence of the clicks per group, and which items, categories and hours gather clicks of low
confidence; learning curves; cost. Runs have to be of one data set; the first plain one is what
others are compared with. Confidences are those of `clsd-score`, and are written where they are
missing. Needs the extra `report`. docs/report.md says how to read it.
"""

from __future__ import annotations

import datetime
import importlib.util
import pathlib

from absl import app, flags

from data_pipeline.cli import load_tensorflow, run_main, write_results

# How a command that takes arguments beside flags says so.
ARGUMENTS = "RUN [RUN ...]"

_SPLIT = flags.DEFINE_enum("split", "valid", ["valid", "test"], "Rows to judge the runs on.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data set; default: that of the first run."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where report.html goes; default: <last RUN>/report."
)
_COMPARISON = flags.DEFINE_string(
    "comparison", None, "results.json of a comparison (`clsd-compare`), to be shown as well."
)
_TITLE = flags.DEFINE_string("title", None, "Of the page; default: names of the runs.")
_DRAWS = flags.DEFINE_integer("bootstrap_draws", 1000, "Samples of users for intervals.", 1)


def main(argv: list[str]) -> None:
    """Reports on the runs that are given as arguments."""
    if len(argv) < 2:
        raise app.UsageError(f"Received: no run. Expected: {ARGUMENTS}.")
    _require_extra()
    from experiments.reporting.runs import read_comparison, read_runs

    comparison = read_comparison(pathlib.Path(_COMPARISON.value)) if _COMPARISON.value else None
    runs = read_runs(argv[1:])
    data_dir = str(_DATA_DIR.value or runs[0].config.data_dir)
    for facts in runs:
        facts.run.require_same_encoding(data_dir)

    load_tensorflow()
    import tensorflow as tf

    from experiments.reporting.contents import build_report

    tf.get_logger().setLevel("ERROR")  # it warns of optimizers, which nothing here needs
    output = pathlib.Path(_OUTPUT_DIR.value or runs[-1].run.directory / "report")
    built = build_report(
        runs,
        data_dir,
        _SPLIT.value,
        draws=_DRAWS.value,
        comparison=comparison,
        title=_TITLE.value,
        written=datetime.datetime.now(datetime.UTC),
    )
    path = output / "report.html"
    built.write(path)
    print(path)
    write_results(
        output / "results.json",
        config={
            "runs": [str(facts.run.directory) for facts in runs],
            "data_dir": data_dir,
            "split": _SPLIT.value,
            "bootstrap_draws": _DRAWS.value,
            "comparison": _COMPARISON.value,
        },
        metrics={"page": str(path), **built.metrics},
    )


def _require_extra() -> None:
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"Reports need the extra `report`. Received: no {', '.join(missing)}. Install it: "
            'pip install "clsd_tf[report]".'
        )


def cli() -> None:
    """Entry point of `clsd-report`."""
    run_main(main)


if __name__ == "__main__":
    cli()
