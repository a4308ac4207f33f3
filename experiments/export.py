"""Exports the student of a run as a SavedModel for TensorFlow Serving.

python -m experiments.export --model_dir=runs/clsd
python -m experiments.export --model_dir=runs/clsd --output_dir=served/click_model

Writes `<output_dir>/<version>`, whole or not at all, with two signatures: `serving_default` takes
`tf.train.Example`s of raw features (Regress, Predict), `predict_features` encoded ones. What the
output estimates stands in `assets.extra/metadata.json`.
"""

from __future__ import annotations

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_results
from experiments.runs import Run

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of a finished run (`clsd-train`).")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Base path of the model for the server; default: <model_dir>/export."
)
_VERSION = flags.DEFINE_integer("version", None, "Default: the one after the latest there.", 1)
flags.mark_flag_as_required("model_dir")


def main(argv: list[str]) -> None:
    """Exports a run by the flags."""
    del argv
    run = Run(_MODEL_DIR.value)
    run.require_finished()

    load_tensorflow()
    from clsd_tf import Encoder, export_model
    from experiments.models import load_model

    model = load_model(run, run.config())
    encoder = Encoder.load(run.encoding)
    meaning = run.output_meaning()
    path = export_model(
        model,
        encoder,
        _OUTPUT_DIR.value or run.export,
        _VERSION.value,
        output_meaning=meaning,
    )
    config = {"model_dir": str(run.directory), "output_dir": str(path.parent)}
    metrics = {
        "path": str(path),
        "version": int(path.name),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "outputs": meaning,
    }
    write_results(path / "assets.extra" / "results.json", config=config, metrics=metrics)


def cli() -> None:
    """Entry point of `clsd-export`."""
    run_main(main)


if __name__ == "__main__":
    cli()
