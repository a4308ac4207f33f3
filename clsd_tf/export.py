"""A trained backbone and the encoding of its log as a SavedModel that is ready to serve."""

from __future__ import annotations

import json
import pathlib

import tensorflow as tf
import tf_keras as keras

from clsd_tf.encoding import Encoder
from clsd_tf.entities import described_entity
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.sample_rows import sample_request
from clsd_tf.shared_input import share_input
from clsd_tf.signatures import build_confidence, build_signatures
from clsd_tf.storage import TableStorage, stored_tables
from clsd_tf.versions import new_version

METADATA, REQUESTS = "metadata.json", "requests.json"
# TensorFlow Serving looks here for warm-up requests, and leaves the rest of the folder alone.
EXTRA = "assets.extra"
CONFIDENCE = "confidence"
_SAMPLES = 3  # candidates in the sample of a request


def export_model(
    model: ClickConfidenceModel | keras.layers.Layer,
    encoder: Encoder,
    directory: str | pathlib.Path,
    version: int | None = None,
    *,
    output_meaning: str | None = None,
    storage: TableStorage | None = None,
    with_confidence: bool = False,
    warmup_requests: int = 0,
) -> pathlib.Path:
    """Writes `directory/<version>`, whole or not at all.

    The signatures are those of `clsd_tf.signatures`; all but `predict_encoded` take raw features.
    The graph holds the backbone and the encoding; neither teacher nor confidence, unless they are
    asked for. What the probabilities estimate stands in `assets.extra/metadata.json`.

    Args:
      model: the trained model, or a bare backbone.
      encoder: of the data that it was trained on.
      directory: base path of the model for TensorFlow Serving.
      version: positive. Defaults to the one after the latest in `directory`.
      output_meaning: what a probability estimates, where the model does not know: one whose weights
        were loaded without what it was trained by. Defaults to its `output_meaning`.
      storage: of the embedding tables; None stores them as they are.
      with_confidence: adds the signature `confidence`, and with it the teacher.
      warmup_requests: with how many requests for each signature a server warms up before it serves
        the version; more than 0 needs the extra `serving`.

    Returns:
      Path of the version.

    Raises:
      FileExistsError: the version exists.
      ValueError: the version is not positive, or the model has not what is asked for.
      ImportError: warm-up requests are asked for without the extra.
    """
    backbone = model.backbone if isinstance(model, ClickConfidenceModel) else model
    storage = storage or TableStorage()
    with new_version(directory, version) as (beside, target):
        # The Keras objects stay out: tracked, they would add their own functions to the graph.
        module = tf.Module(name="served")
        module.encoder = encoder
        with stored_tables(backbone, storage) as variables:
            signatures = build_signatures(backbone, encoder)
            if with_confidence:
                _require_confidence(model)
                signatures[CONFIDENCE] = build_confidence(model, encoder)
                variables = [*variables, *model.teacher.weights, *model.confidence.weights]
            module.weights = variables
            tf.saved_model.save(module, str(beside), signatures=signatures)
        by_example = [name for name in ("classify", CONFIDENCE) if name in signatures]
        share_input(beside, "serving_default", by_example)
        extra = beside / EXTRA
        extra.mkdir()
        _write_json(extra / REQUESTS, _sample_requests(encoder))
        meaning = output_meaning or getattr(model, "output_meaning", "click rate")
        metadata = _metadata(encoder, meaning, storage, list(signatures))
        _write_json(extra / METADATA, metadata)
        if warmup_requests:
            from clsd_tf.warmup import write_warmup_requests  # needs the extra `serving`

            write_warmup_requests(
                beside, encoder, pathlib.Path(directory).name, list(signatures), warmup_requests
            )
    return target


def _require_confidence(model: object) -> None:
    if not isinstance(model, ClickConfidenceModel):
        raise ValueError(
            "Only a `ClickConfidenceModel` knows the confidence of clicks. Received: "
            f"{type(model).__name__}. Leave `with_confidence` out."
        )


def _sample_requests(encoder: Encoder) -> dict[str, object]:
    """A user and candidates in the form of the REST API; `examples/serving_client.py` sends it."""
    once, candidates = sample_request(encoder, _SAMPLES)
    named = {column.name for column in encoder.spec.model_columns}
    context = {name: value for name, value in once.items() if name in named}
    return {"context": context, "examples": candidates}


def _write_json(path: pathlib.Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _metadata(
    encoder: Encoder, meaning: str, storage: TableStorage, signatures: list[str]
) -> dict[str, object]:
    spec = encoder.spec
    return {
        "click_log": spec.name,
        "outputs": meaning,
        "signatures": signatures,
        "tables": {"dtype": storage.dtype, "pruned": storage.touched is not None},
        "features": {
            column.name: {
                "type": column.type,
                "list": column.is_list,
                "length": column.max_length,
                "role": column.role,
                "describes": described_entity(spec, column),
            }
            for column in spec.model_columns
        },
    }
