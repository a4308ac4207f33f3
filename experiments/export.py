"""Exports the student of a run as a SavedModel for TensorFlow Serving.

python -m experiments.export --model_dir=runs/clsd
python -m experiments.export --model_dir=runs/clsd --output_dir=served/click_model --keep=5
python -m experiments.export --model_dir=runs/clsd --storage=float16 --prune
python -m experiments.export --model_dir=runs/clsd --with_confidence --nowarmup

Writes `<output_dir>/<version>`, whole or not at all. `clsd_tf.signatures` lists what it can be
asked; `assets.extra/metadata.json` says what the output estimates, and `clsd-deploy` writes what a
server needs. What --storage and --prune cost in AUC is told by `clsd-table-storage`.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys

from absl import flags

from clsd_tf.versions import remove_old_versions
from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.progress import steps
from experiments.runs import Run

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of a finished run (`clsd-train`).")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Base path of the model for the server; default: <model_dir>/export."
)
_VERSION = flags.DEFINE_integer("version", None, "Default: the one after the latest there.", 1)
_STORAGE = flags.DEFINE_enum(
    "storage",
    "float32",
    ["float32", "float16", "bfloat16"],
    "Of embedding tables; they are computed with as float32.",
)
_PRUNE = flags.DEFINE_bool("prune", False, "Leave out rows of tables that training never changed.")
_WITH_CONFIDENCE = flags.DEFINE_bool(
    "with_confidence", False, "Add the signature `confidence`, and with it the teacher."
)
_WARMUP = flags.DEFINE_bool(
    "warmup",
    None,
    "Add requests that a server warms up with; by default where the extra `serving` is installed.",
)
_WARMUP_REQUESTS = flags.DEFINE_integer(
    "warmup_requests", 4, "Warm-up requests for each signature.", 1
)
_KEEP = flags.DEFINE_integer(
    "keep", None, "Remove all but so many of the latest versions afterwards; by default none.", 1
)
flags.mark_flag_as_required("model_dir")


def main(argv: list[str]) -> None:
    """Exports a run by the flags."""
    del argv
    run = Run(_MODEL_DIR.value)
    run.require_finished()
    warmup_requests = _WARMUP_REQUESTS.value if _warms_up() else 0

    load_tensorflow()
    from clsd_tf import Encoder, export_model
    from clsd_tf.storage import TableStorage, rows_touched
    from experiments.exporting import load_untrained, load_with_confidence
    from experiments.models import load_model

    with_confidence = _WITH_CONFIDENCE.value
    model = load_with_confidence(run) if with_confidence else load_model(run, run.config())
    touched = None
    if _PRUNE.value:
        touched = rows_touched(load_untrained(run).backbone, model.backbone)
    meaning = run.output_meaning()
    with steps() as begin:
        begin("Exporting")
        path = export_model(
            model,
            Encoder.load(run.encoding),
            _OUTPUT_DIR.value or run.export,
            _VERSION.value,
            output_meaning=meaning,
            storage=TableStorage(_STORAGE.value, touched),
            with_confidence=with_confidence,
            warmup_requests=warmup_requests,
        )
    metrics = {
        "path": str(path),
        "version": int(path.name),
        "bytes": directory_bytes(path),
        "outputs": meaning,
        "warmup_requests": warmup_requests,
        "rows_kept": None if touched is None else [int(rows.sum()) for rows in touched],
    }
    if _KEEP.value is not None:
        metrics["removed"] = remove_old_versions(path.parent, _KEEP.value, [int(path.name)])
    config = {
        "model_dir": str(run.directory),
        "output_dir": str(path.parent),
        "storage": _STORAGE.value,
        "prune": _PRUNE.value,
    }
    write_results(path / "assets.extra" / "results.json", config=config, metrics=metrics)


def directory_bytes(path: pathlib.Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _warms_up() -> bool:
    """Whether warm-up requests are written; says so where they are not for want of the extra."""
    if _WARMUP.value is False:
        return False
    installed = importlib.util.find_spec("tensorflow_serving") is not None
    if not installed and _WARMUP.value:
        raise ValueError(
            "--warmup needs `tensorflow-serving-api`. Received: --warmup, without the package. "
            "Expected: the extra: pip install 'clsd_tf[serving]'. Or leave --warmup out."
        )
    if not installed:
        print(
            "Without warm-up requests: the extra `serving` is not installed. --nowarmup says that "
            "this is meant.",
            file=sys.stderr,
        )
    return installed


def cli() -> None:
    """Entry point of `clsd-export`."""
    run_main(main)


if __name__ == "__main__":
    cli()
