r"""Checks the rows of another day, or served requests, against what a model was trained on.

python -m experiments.drift --data_dir=prepared --input='logs/2022-05-15.parquet' --output_dir=drift
python -m experiments.drift --data_dir=prepared --input=logs --output_dir=drift --max_shift=1.0
python -m experiments.drift --data_dir=prepared --requests=requests.jsonl --output_dir=drift \
    --max_new=0.3 --max_missing=0.05

A log is read as `clsd-prepare` reads it. Requests are JSON lines, one object of raw features each.
Compared are: columns that are missing, click rate, shares of missing values and of values that
training has not known, means of numbers. Differences that chance explains (three standard errors)
are none. Where something has drifted too far, the report says what, and the status is 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pathlib
import tempfile

import duckdb
from absl import flags
from rich.console import Console
from rich.table import Table

from data_pipeline.cli import run_main, write_results

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data set that was trained on (`clsd-prepare`).")
_INPUT = flags.DEFINE_string("input", None, "Log of another day: a file, a glob or a directory.")
_REQUESTS = flags.DEFINE_string("requests", None, "Served requests, a file of JSON lines.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "drift", "Where results.json goes.")
_MAX_CLICK_RATE = flags.DEFINE_float(
    "max_click_rate", 0.25, "Largest change of the click rate, as a share of it.", 0.0
)
_MAX_MISSING = flags.DEFINE_float(
    "max_missing", 0.1, "Largest rise of the share of missing values.", 0.0, 1.0
)
_MAX_NEW = flags.DEFINE_float(
    "max_new", 0.2, "Largest rise of the share of values that training has not known.", 0.0, 1.0
)
_MAX_SHIFT = flags.DEFINE_float(
    "max_shift", 0.5, "Largest shift of a mean, in standard deviations of training.", 0.0
)
flags.mark_flag_as_required("data_dir")


@flags.multi_flags_validator(
    ["input", "requests"], message="one of --input and --requests, what is to be checked."
)
def _is_one(values: dict[str, object]) -> bool:
    return (values["input"] is None) != (values["requests"] is None)


def main(argv: list[str]) -> None:
    """Checks by the flags."""
    del argv
    from data_pipeline.drift import Limits, compare, read_training
    from data_pipeline.drift_rows import profile_log, profile_requests

    data_dir = pathlib.Path(_DATA_DIR.value)
    training = read_training(data_dir)
    limits = Limits(_MAX_CLICK_RATE.value, _MAX_MISSING.value, _MAX_NEW.value, _MAX_SHIFT.value)
    with tempfile.TemporaryDirectory() as place, _one_sentence():
        if _REQUESTS.value is not None:
            now = profile_requests(data_dir, _REQUESTS.value, pathlib.Path(place))
        else:
            now = profile_log(data_dir, _INPUT.value, pathlib.Path(place))
    findings = compare(training, now, limits)
    print(render(findings, f"{now.rows:,} rows of {_INPUT.value or _REQUESTS.value}"))
    too_far = [finding for finding in findings if finding.too_far]
    write_results(
        pathlib.Path(_OUTPUT_DIR.value) / "results.json",
        config={
            "data_dir": str(data_dir),
            "input": _INPUT.value,
            "requests": _REQUESTS.value,
            "limits": dataclasses.asdict(limits),
        },
        metrics={
            "rows": now.rows,
            "bad_rows": now.bad_rows,
            "too_far": len(too_far),
            "findings": [dataclasses.asdict(finding) for finding in findings],
        },
    )
    if too_far:
        told = "; ".join(f.sentence() for f in too_far[:5])
        more = f"; and {len(too_far) - 5} more" if len(too_far) > 5 else ""
        raise ValueError(
            "What is served or logged has drifted from what was trained on. Received: "
            f"{told}{more}. Expected: differences within the limits. Find the cause, train on "
            "later rows, or raise the limits (--help)."
        )


def render(findings: list, title: str) -> str:
    """The findings as a table, what has drifted too far first."""
    text = io.StringIO()
    console = Console(file=text, width=110)
    table = Table(title=f"drift: {title}", title_justify="left")
    for name in ("column", "what", "training", "now", "limit", ""):
        table.add_column(name)
    for finding in sorted(findings, key=lambda finding: not finding.too_far):
        numbers = [f"{value:.4g}" for value in (finding.training, finding.now, finding.limit)]
        mark = "TOO FAR" if finding.too_far else ""
        table.add_row(finding.column, finding.what, *numbers, mark)
    console.print(table)
    return text.getvalue().rstrip()


@contextlib.contextmanager
def _one_sentence():
    """Errors of the engine as those of a command."""
    from data_pipeline.engines import told

    try:
        yield
    except (duckdb.Error, json.JSONDecodeError) as error:
        raise ValueError(
            f"The rows cannot be read. Received: {told(error)} Expected: rows as `clsd-prepare` "
            "reads them, or requests as JSON lines."
        ) from error


def cli() -> None:
    """Entry point of `clsd-drift`."""
    run_main(main)


if __name__ == "__main__":
    cli()
