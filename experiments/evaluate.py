"""Evaluates the student of a run on a split, on clicks and on post-click satisfaction.

python -m experiments.evaluate --model_dir=runs/clsd --data_dir=prepared --split=valid
python -m experiments.evaluate --model_dir=runs/clsd --split=test --output_dir=judged/clsd
python -m experiments.evaluate --model_dir=runs/clsd --saved_model=served/click_model/1 --raw=logs

Prints a table, and leaves it with `results.json` in `<model_dir>/evaluation/<split>`. Tune on
validation rows; read the test split once, at the end.

With --saved_model and --raw the raw log is scored by that export too, as a client would send it. If
a row gets another score there than in training, the command fails.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib

from absl import flags
from rich.console import Console
from rich.table import Table

from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.directories import whole_file
from data_pipeline.progress import steps
from experiments.runs import finished_run

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of a finished run (`clsd-train`).")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data set that the run was trained on; default: as it was trained."
)
_SPLIT = flags.DEFINE_enum("split", "valid", ["train", "valid", "test"], "Rows to evaluate on.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4096, "Impressions scored at once.", 1)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where results go; default: <model_dir>/evaluation/<split>."
)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "An export of the run, such as served/click_model/1; needs --raw."
)
_RAW = flags.DEFINE_string(
    "raw", None, "The raw log that the data set was prepared from; needs --saved_model."
)
_MAX_DIFFERENCE = flags.DEFINE_float(
    "max_difference", 1e-5, "Of the probability that the export gives to a row.", 0.0
)
flags.mark_flag_as_required("model_dir")


def main(argv: list[str]) -> None:
    """Evaluates a run by the flags."""
    del argv
    if (_SAVED_MODEL.value is None) != (_RAW.value is None):
        raise ValueError(
            "An export is compared on a raw log. Received: one of --saved_model and --raw. "
            "Expected: both, or neither."
        )
    run, config, data_dir = finished_run(_MODEL_DIR.value, _DATA_DIR.value)

    load_tensorflow()
    from clsd_tf import Encoder
    from experiments.corrections import as_served
    from experiments.evaluation import judge, score_split
    from experiments.models import load_model

    encoder = Encoder.load(run.encoding)
    model = load_model(run, config)
    scored = score_split(model, encoder, data_dir, _SPLIT.value, _BATCH_SIZE.value)
    served = as_served(scored, model, config)
    with steps() as begin:
        begin("Judging")
        judged = {**judge(served, encoder.group_names()), "outputs": run.output_meaning()}
    skew = None
    if _SAVED_MODEL.value is not None:
        from experiments.skew import compare_raw

        by_export, skew = compare_raw(
            _SAVED_MODEL.value, scored, data_dir, _RAW.value, _SPLIT.value, _MAX_DIFFERENCE.value
        )
        judged["skew"] = dataclasses.asdict(skew)
        judged["by_export"] = judge(by_export, encoder.group_names())

    output = pathlib.Path(_OUTPUT_DIR.value or run.evaluation(_SPLIT.value))
    table = render(judged, f"{run.directory} on {_SPLIT.value}")
    print(table)
    with whole_file(output / "table.txt") as beside:
        beside.write_text(table + "\n", encoding="utf-8")
    write_results(
        output / "results.json",
        config={
            "model_dir": str(run.directory),
            "data_dir": data_dir,
            "split": _SPLIT.value,
            "method": config.method,
            "seed": config.seed,
            "saved_model": _SAVED_MODEL.value,
            "raw": _RAW.value,
        },
        metrics=judged,
    )
    if skew is not None and skew.rows_that_differ:
        raise ValueError(
            f"The export answers raw rows otherwise than the trained model scores them. Received: "
            f"{skew.rows_that_differ:,} of {skew.rows:,} rows differ, by up to "
            f"{max(skew.largest_difference, skew.largest_example_difference):.2g}. Expected: at "
            f"most --max_difference={_MAX_DIFFERENCE.value:g}. Export this run again, and compare "
            "with the log that its data set was prepared from."
        )


def render(judged: dict, title: str) -> str:
    """The metrics as text: one table for clicks, one for satisfaction."""
    text = io.StringIO()
    console = Console(file=text, width=110)
    clicks = Table(title=f"{title}: clicks", title_justify="left")
    names = ("rows", "click rate", "AUC", "GAUC", "log loss", "NE", "predicted/observed", "ECE")
    clicks.add_column("group")
    for name in names:
        clicks.add_column(name, justify="right")
    for name, values in {"all": judged["click"], **judged["groups"]}.items():
        columns = [f"{values['rows']:,}"]
        columns += [f"{v:.4f}" for k, v in values.items() if k not in ("rows", "gauc_users")]
        clicks.add_row(name, *columns)
    console.print(clicks)
    if judged["satisfaction"]:
        signals = Table(title="post-click satisfaction", title_justify="left")
        signals.add_column("signal")
        for name in ("rate", "AUC", "GAUC", "rate among clicks", "AUC among clicks"):
            signals.add_column(name, justify="right")
        for name, values in judged["satisfaction"].items():
            signals.add_row(name, *(f"{value:.4f}" for value in values.values()))
        console.print(signals)
    if "skew" in judged:
        skew = judged["skew"]
        console.print(
            f"by the export: AUC {judged['by_export']['click']['auc']:.4f}; largest difference of "
            f"{skew['rows']:,} rows {skew['largest_difference']:.2g}, of {skew['example_rows']:,} "
            f"sent as Examples {skew['largest_example_difference']:.2g}",
            highlight=False,
        )
    return text.getvalue().rstrip()


def cli() -> None:
    """Entry point of `clsd-evaluate`."""
    run_main(main)


if __name__ == "__main__":
    cli()
