"""Measures what an export costs in AUC when its embedding tables take fewer bytes.

python -m experiments.table_storage --model_dir=runs/clsd
python -m experiments.table_storage --model_dir=runs/clsd --data_dir=prepared --split=test
python -m experiments.table_storage --model_dir=runs/plain --output_dir=storage_of_plain

Exports the run in each form of storage, scores the split through each export, and prints bytes and
AUC beside those of the plain export. Leaves `results.json` in `<model_dir>/storage`.
"""

from __future__ import annotations

import io
import pathlib
import tempfile
from typing import TYPE_CHECKING

from absl import flags
from rich.console import Console
from rich.table import Table

from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.progress import steps
from experiments.runs import finished_run

if TYPE_CHECKING:  # it loads TensorFlow
    from experiments.evaluation import ScoredSplit

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of a finished run (`clsd-train`).")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data set that the run was trained on; default: as it was trained."
)
_SPLIT = flags.DEFINE_enum("split", "valid", ["train", "valid", "test"], "Rows to score.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where results go; default: <model_dir>/storage."
)
flags.mark_flag_as_required("model_dir")


def main(argv: list[str]) -> None:
    """Measures by the flags."""
    del argv
    run, config, data_dir = finished_run(_MODEL_DIR.value, _DATA_DIR.value)

    load_tensorflow()
    from clsd_tf import Encoder, export_model
    from clsd_tf.storage import STORAGE_TYPES, TableStorage, rows_touched
    from experiments.exporting import load_untrained
    from experiments.models import load_model
    from experiments.skew import score_encoded

    encoder = Encoder.load(run.encoding)
    model = load_model(run, config)
    touched = rows_touched(load_untrained(run).backbone, model.backbone)
    forms: dict[str, TableStorage] = {dtype: TableStorage(dtype) for dtype in STORAGE_TYPES}
    forms |= {f"{dtype}, pruned": TableStorage(dtype, touched) for dtype in STORAGE_TYPES}
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place, steps() as begin:
        for name, storage in forms.items():
            begin(f"Tables as {name}")
            base = pathlib.Path(place) / str(len(measured))
            path = export_model(model, encoder, base, storage=storage)
            scored = score_encoded(path, encoder, data_dir, _SPLIT.value)
            measured[name] = _measure(path, scored, measured.get("float32"))
    rows = sum(len(of_table) for of_table in touched)
    kept = sum(int(of_table.sum()) for of_table in touched)
    title = f"{run.directory} on {_SPLIT.value}: {kept:,} of {rows:,} rows touched"
    table = _render(measured, title)
    print(table)
    output = pathlib.Path(_OUTPUT_DIR.value or run.directory / "storage")
    write_results(
        output / "results.json",
        config={"model_dir": str(run.directory), "data_dir": data_dir, "split": _SPLIT.value},
        metrics={"rows": rows, "rows_touched": kept, "storage": measured},
    )


def _measure(path: pathlib.Path, scored: ScoredSplit, plain: dict | None) -> dict[str, float]:
    from clsd_tf import metrics

    variables = path / "variables"
    auc = metrics.auc(scored.labels, scored.scores)
    loss = metrics.log_loss(scored.labels, scored.scores)
    return {
        "variable_bytes": sum(file.stat().st_size for file in variables.iterdir()),
        "auc": auc,
        "auc_difference": auc - plain["auc"] if plain else 0.0,
        "log_loss": loss,
        "log_loss_difference": loss - plain["log_loss"] if plain else 0.0,
    }


def _render(measured: dict[str, dict[str, float]], title: str) -> str:
    text = io.StringIO()
    console = Console(file=text, width=100)
    table = Table(title=title, title_justify="left")
    table.add_column("tables")
    for name in ("bytes", "AUC", "difference", "log loss", "difference"):
        table.add_column(name, justify="right")
    for name, values in measured.items():
        size, auc, auc_difference, loss, loss_difference = values.values()
        table.add_row(
            name,
            f"{size:,}",
            f"{auc:.5f}",
            f"{auc_difference:+.5f}",
            f"{loss:.5f}",
            f"{loss_difference:+.5f}",
        )
    console.print(table)
    return text.getvalue().rstrip()


def cli() -> None:
    """Entry point of `clsd-table-storage`."""
    run_main(main)


if __name__ == "__main__":
    cli()
