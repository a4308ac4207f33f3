"""Requests that a server replays before it serves a version. Needs the extra `serving`.

The first request of a signature is slow: tables are read, kernels and memory are set up. TensorFlow
Serving replays `assets.extra/tf_serving_warmup_requests` first, so that no user waits for that.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from clsd_tf import serving_api
from clsd_tf.encoding import Encoder
from clsd_tf.requests import to_candidates, to_dense, to_encoded, to_example
from clsd_tf.sample_rows import sample_request, sample_rows

from tensorflow_serving.apis import prediction_log_pb2  # isort: skip (after the sentence above)

WARMUP = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # of TensorFlow Serving
_ROWS = 8  # in a request


def write_warmup_requests(
    directory: pathlib.Path, encoder: Encoder, name: str, signatures: Sequence[str], count: int
) -> None:
    """Writes the warm-up file of an export.

    Args:
      directory: of the version; has the folder `assets.extra`.
      encoder: of the export.
      name: of the model.
      signatures: that it has.
      count: requests for each signature.

    Raises:
      ValueError: a server would refuse so many.
    """
    logs = list(warmup_logs(encoder, name, signatures, count))
    if len(logs) > MAX_RECORDS:
        raise ValueError(
            f"A server takes at most {MAX_RECORDS} warm-up requests. Received: {count} for each "
            f"signature, {len(logs)} in all. Ask for fewer."
        )
    with tf.io.TFRecordWriter(str(directory / WARMUP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def warmup_logs(
    encoder: Encoder, name: str, signatures: Sequence[str], count: int
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Yields `count` requests for each signature, of made-up rows, with each API that it serves."""
    spec, group = encoder.spec, encoder.spec.with_role("group")
    for seed in range(count):
        rows = sample_rows(encoder, _ROWS, seed)
        once, candidates = sample_request(encoder, _ROWS, seed)
        inputs: dict[str, Mapping[str, Any]] = {
            "serving_default": {"inputs": [to_example(spec, r).SerializeToString() for r in rows]},
            "predict_features": to_dense(spec, rows),
            "predict_candidates": to_candidates(spec, once, candidates),
            "predict_encoded": to_encoded(encoder, rows),
        }
        for signature, tensors in inputs.items():
            if signature in signatures:
                request = serving_api.predict_request(_model(name, signature), tensors)
                yield _log(predict_log=prediction_log_pb2.PredictLog(request=request))
        examples = serving_api.row_input(spec, candidates, once)
        request = serving_api.regress_request(_model(name, "serving_default"), examples)
        yield _log(regress_log=prediction_log_pb2.RegressLog(request=request))
        request = serving_api.classify_request(_model(name, "classify"), examples)
        yield _log(classify_log=prediction_log_pb2.ClassifyLog(request=request))
        tasks = {"serving_default": "regress", "classify": "classify"}
        request = serving_api.multi_inference_request(name, tasks, examples)
        yield _log(multi_inference_log=prediction_log_pb2.MultiInferenceLog(request=request))
        if "confidence" in signatures:
            examples = serving_api.row_input(spec, rows, extra=group)
            request = serving_api.regress_request(_model(name, "confidence"), examples)
            yield _log(regress_log=prediction_log_pb2.RegressLog(request=request))


def _model(name: str, signature: str) -> object:
    return serving_api.model_spec(name, signature)


def _log(**fields: object) -> prediction_log_pb2.PredictionLog:
    return prediction_log_pb2.PredictionLog(**fields)
