r"""Scores a data set once with the model of a run, so that it can teach at no further cost.

python -m experiments.score --model_dir=runs/plain --data_dir=prepared
python -m experiments.train --data_dir=prepared --model_dir=runs/clsd --teacher=scores \
    --scores_dir=runs/plain/scores
python -m experiments.score --model_dir=runs/clsd --splits=train
python -m experiments.score --model_dir=runs/clsd --data_dir=day_2 --output_dir=day_2_scores

Writes the logit of every row beside the shards, one file a shard, in <model_dir>/scores. A pass
that was interrupted goes on with the next shard when the same command is given again.

Of a run with a confidence function it also writes what its student was told of each click, one row
a click, and the same beside the shards: <model_dir>/scores/confidences/<split>.parquet and
<shard>.confidences.tfrecord (docs/confidences.md).
"""

from __future__ import annotations

import dataclasses
import pathlib
import time

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.directories import only_writer
from experiments.runs import finished_run

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of a finished run (`clsd-train`).")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data set to score; default: that of the run."
)
_SPLITS = flags.DEFINE_multi_enum(
    "splits", ["train", "valid"], ["train", "valid", "test"], "Splits to score; may be repeated."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where scores go; default: <model_dir>/scores."
)
flags.mark_flag_as_required("model_dir")


def main(argv: list[str]) -> None:
    """Scores by the flags."""
    del argv
    run, config, data_dir = finished_run(_MODEL_DIR.value, _DATA_DIR.value)
    output = pathlib.Path(_OUTPUT_DIR.value or run.directory / "scores")

    load_tensorflow()
    import tensorflow as tf

    from data_pipeline.reader import read_errors
    from experiments.click_confidences import has_confidence, write_confidences
    from experiments.scoring import score_with

    tf.get_logger().setLevel("ERROR")  # it warns of optimizers, which nothing here needs
    started = time.monotonic()
    with only_writer(output), read_errors(data_dir):
        scores = score_with(run, config, ["student"], _SPLITS.value, output, data_dir)
        config = dataclasses.replace(config, data_dir=data_dir)
        confidences = []
        if has_confidence(config):
            for split in _SPLITS.value:
                confidences.append(write_confidences(run, config, split, output / "confidences"))
    write_results(
        output / "results.json",
        config={
            "model_dir": str(run.directory),
            "data_dir": data_dir,
            "splits": _SPLITS.value,
        },
        metrics={
            "rows": sum(file.rows for file in scores.files),
            "files": len(scores.files),
            "model": scores.model,
            "confidences": confidences,
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def cli() -> None:
    """Entry point of `clsd-score`."""
    run_main(main)


if __name__ == "__main__":
    cli()
