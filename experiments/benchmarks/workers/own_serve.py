"""An export of this project, called as a server calls it."""

from __future__ import annotations

import gc
import pathlib
import shutil
import time

import numpy as np
import tensorflow as tf
from worker_protocol import serve

import clsd_tf
from clsd_tf.requests import to_candidates, to_dense, to_example


class OwnServing:
    """Options: "prepared", "output_dir", "candidates", "signature", "sizes", "taught", "precision".

    "inter_op_threads" run operations side by side, 0: as many as TensorFlow chooses.
    """

    def prepare(self, options: dict) -> dict:
        """Builds, exports and loads a model, and writes a request."""
        tf.config.threading.set_inter_op_parallelism_threads(options["inter_op_threads"])
        encoder = clsd_tf.Encoder.load(options["prepared"])

        def backbone() -> tf.keras.Model:
            sizes, dtype = options["sizes"], options["precision"]
            return clsd_tf.get_backbone("dcn_v2", encoder.model_features, dtype=dtype, **sizes)

        model = backbone()
        if options["taught"]:
            groups = {"num_groups": encoder.num_groups}
            model = clsd_tf.ClickConfidenceModel(model, backbone(), "global", **groups)
        inner = model.backbone if options["taught"] else model
        shapes = {f.name: [1, f.length] if f.is_list else [1] for f in encoder.model_features}
        inner({f.name: tf.zeros(shapes[f.name], _dtype(f)) for f in encoder.model_features})
        directory = pathlib.Path(options["output_dir"])
        shutil.rmtree(directory, ignore_errors=True)
        path = clsd_tf.export_model(model, encoder, directory)
        self._loaded = tf.saved_model.load(str(path))
        self._signature = self._loaded.signatures[options["signature"]]
        rows = [_row(encoder, row) for row in range(options["candidates"])]
        self._request = _request(options["signature"], encoder, rows)
        self._candidates = options["candidates"]
        self.run(20)
        # A server is a program of C++ and searches for no garbage among Python's objects.
        gc.collect()
        gc.freeze()
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return {"bytes": size}

    def run(self, steps: int) -> tuple[int, dict[str, float]]:
        """Answers requests."""
        times = []
        for _ in range(steps):
            start = time.monotonic()
            self._signature(**self._request)["outputs"].numpy()
            times.append(1e3 * (time.monotonic() - start))
        p50, p99 = np.percentile(times, [50, 99])
        return steps * self._candidates, {"p50_ms": float(p50), "p99_ms": float(p99)}


def _dtype(feature: clsd_tf.ModelFeature) -> tf.DType:
    return tf.float32 if feature.kind == "numeric" else tf.int64


def _row(encoder: clsd_tf.Encoder, row: int) -> dict[str, float | int | list[int]]:
    """A candidate with a value in every column."""
    values: dict[str, float | int | list[int]] = {}
    for column in encoder.spec.model_columns:
        if column.type == "float":
            values[column.name] = 0.1 * row
        elif column.is_list:
            values[column.name] = list(range(row, row + column.max_length))
        else:
            values[column.name] = row
    return values


def _request(signature: str, encoder: clsd_tf.Encoder, rows: list[dict]) -> dict[str, tf.Tensor]:
    """The inputs of a signature."""
    if signature == "serving_default":
        examples = [to_example(encoder.spec, row).SerializeToString() for row in rows]
        return {"inputs": tf.constant(examples)}
    if signature == "predict_candidates":
        inputs = to_candidates(encoder.spec, rows[0], rows)
    else:
        inputs = to_dense(encoder.spec, rows)
    return {name: tf.constant(values) for name, values in inputs.items()}


if __name__ == "__main__":
    serve(OwnServing())
