r"""Trains two towers for retrieval on the clicks of a data set, by their confidence if wanted.

python -m experiments.retrieve --data_dir=prepared --output_dir=towers/plain
python -m experiments.retrieve --data_dir=prepared --output_dir=towers/clsd --scorer=runs/clsd
python -m experiments.retrieve --data_dir=prepared --output_dir=towers/one --scorer=runs/clsd \
    --nocorrect_negatives --k=10 --seed=1

The features of each tower follow from the spec: those that describe the user, and those that
describe the item. The towers are judged by Recall@k on the clicks of a split, and on those of them
that satisfied, among all items of the training rows; items that were not there count as missed.
Leaves `results.json`, and in `index` a SavedModel that gives the k best items of a user.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.progress import steps
from experiments.runs import finished_run

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set (`clsd-prepare`).")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where results and the index go.")
_SCORER = flags.DEFINE_string(
    "scorer",
    None,
    "Directory of a finished run with a confidence function, which says what clicks are worth; by "
    "default all are worth the same.",
)
_CORRECT = flags.DEFINE_bool(
    "correct_negatives", True, "Count the other items of a batch by the confidence of their clicks."
)
_SPLIT = flags.DEFINE_enum("split", "valid", ["valid", "test"], "Rows to judge by.")
_JUDGE = flags.DEFINE_string(
    "judge", None, "Satisfaction column of zeros and ones to judge by; default: the first."
)
_K = flags.DEFINE_integer("k", 100, "Items to retrieve.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Passes over the rows.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1024, "Impressions a step.", 2)
_UNITS = flags.DEFINE_list("units", ["64"], "Widths of the hidden layers of both towers.")
_DIM = flags.DEFINE_integer("dim", 32, "Of the vectors that the towers give.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of initial weights and the order of rows.", 0)
flags.mark_flags_as_required(["data_dir", "output_dir"])


@flags.validator("units", message="must be widths with commas between them.")
def _are_widths(texts: list[str]) -> bool:
    return all(text.isdigit() and int(text) > 0 for text in texts)


def main(argv: list[str]) -> None:
    """Trains and judges by the flags."""
    del argv
    output = pathlib.Path(_OUTPUT_DIR.value)
    if (output / "index").exists():
        raise ValueError(
            f"There is an index already. Received: --output_dir={output}. Expected: a folder "
            "without one; choose another."
        )
    scorer_run = finished_run(_SCORER.value, _DATA_DIR.value) if _SCORER.value else None
    _require_confidence(scorer_run)

    load_tensorflow()
    from clsd_tf.retrieval_index import export_index
    from experiments.retrieval import Towers, judge_towers, satisfaction_column, train_towers
    from experiments.training import load_taught

    scorer = None
    if scorer_run is not None:
        run, config, _ = scorer_run
        scorer, _ = load_taught(run, config)
    judge = satisfaction_column(_DATA_DIR.value, _JUDGE.value)
    towers = Towers(
        units=tuple(int(text) for text in _UNITS.value),
        dim=_DIM.value,
        correct_negatives=_CORRECT.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        seed=_SEED.value,
    )
    model = train_towers(_DATA_DIR.value, towers, scorer)
    with steps() as begin:
        begin("Judging")
        index, metrics = judge_towers(model, _DATA_DIR.value, _SPLIT.value, _K.value, judge)
        begin("Exporting the index")
        output.mkdir(parents=True, exist_ok=True)
        metrics["index"] = str(export_index(index, output / "index"))
    asked = {
        "data_dir": _DATA_DIR.value,
        "scorer": _SCORER.value,
        "split": _SPLIT.value,
        "k": _K.value,
        **dataclasses.asdict(towers),
    }
    for name, value in metrics.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    write_results(output / "results.json", config=asked, metrics=metrics)


def _require_confidence(scorer: tuple | None) -> None:
    if scorer is None:
        return
    run, config, _ = scorer
    if "confidence" not in config.options or config.teacher == "scores":
        has = "stored scores" if "confidence" in config.options else "no confidence function"
        raise ValueError(
            f"--scorer says what clicks are worth by its teacher and its confidence function. "
            f"Received: {run.directory}, a run of '{config.method}' with {has}. Expected: a run of "
            "`clsd-train --method=clsd --teacher=frozen`, or `--teacher=ema`."
        )


def cli() -> None:
    """Entry point of `clsd-retrieve`."""
    run_main(main)


if __name__ == "__main__":
    cli()
