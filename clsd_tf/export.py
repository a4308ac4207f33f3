"""A trained backbone and the encoding of its log as a SavedModel that is ready to serve."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import logits_of
from clsd_tf.encoding import Encoder
from clsd_tf.features import ModelFeature
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.parsing import parsing_spec

METADATA = "metadata.json"
_EXTRA = "assets.extra"  # TensorFlow Serving and `tf.saved_model` leave this folder alone


def export_model(
    model: ClickConfidenceModel | keras.layers.Layer,
    encoder: Encoder,
    directory: str | pathlib.Path,
    version: int | None = None,
    *,
    output_meaning: str | None = None,
) -> pathlib.Path:
    """Writes `directory/<version>`, whole or not at all.

    Signatures:
      serving_default: `inputs`, string [batch], `tf.train.Example`s of raw features ->
        `outputs`, float32 [batch], probabilities. The shape of the Regress API, and usable by
        Predict as well. A feature that is left out is missing.
      predict_features: encoded features by name, int64 or float32, [batch] or [batch, length] ->
        `outputs`, as above.

    The graph holds the backbone and the encoding; neither teacher nor confidence. What the
    probabilities estimate stands in `assets.extra/metadata.json`.

    Args:
      model: the trained model, or a bare backbone.
      encoder: of the data that it was trained on.
      directory: base path of the model for TensorFlow Serving.
      version: positive. Defaults to the one after the latest in `directory`.
      output_meaning: what a probability estimates, where the model does not know: one whose weights
        were loaded without what it was trained by. Defaults to its `output_meaning`.

    Returns:
      Path of the version.

    Raises:
      FileExistsError: the version exists.
      ValueError: the version is not positive.
    """
    directory = pathlib.Path(directory)
    version = _next_version(directory) if version is None else version
    if version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: {version}.")
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(
            f"Version {version} exists in {directory}. Choose another one, or leave `version` out "
            "for the next."
        )
    backbone = model.backbone if isinstance(model, ClickConfidenceModel) else model
    meaning = output_meaning or getattr(model, "output_meaning", "click rate")

    # A server that polls the base path passes over names that are no integers.
    beside = directory / f".{version}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        module, signatures = _served(backbone, encoder)
        tf.saved_model.save(module, str(beside), signatures=signatures)
        _write_metadata(beside, encoder, meaning)
        os.rename(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _served(
    backbone: keras.layers.Layer, encoder: Encoder
) -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    """A bare module with the variables and tables that its signatures use."""
    # There is no control flow to convert, and AutoGraph warns of what it cannot.
    encode = tf.autograph.experimental.do_not_convert(encoder.__call__)

    def predict_features(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tf.sigmoid(logits_of(backbone, features))}

    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(inputs, parsing_spec(encoder.spec, serving=True))
        return predict_features(**encode(raw))

    examples = tf.TensorSpec([None], tf.string, name="inputs")
    dense = {feature.name: _tensor_spec(feature) for feature in encoder.model_features}

    signatures = {
        "serving_default": tf.function(serving_default).get_concrete_function(examples),
        "predict_features": tf.function(predict_features).get_concrete_function(**dense),
    }
    # The Keras objects stay out: tracked, they would add their own functions to the graph.
    module = tf.Module(name="served")
    module.encoder = encoder
    module.weights = list(backbone.weights)
    return module, signatures


def _tensor_spec(feature: ModelFeature) -> tf.TensorSpec:
    dtype = tf.float32 if feature.kind == "numeric" else tf.int64
    shape = [None, feature.length] if feature.is_list else [None]
    return tf.TensorSpec(shape, dtype, name=feature.name)


def _write_metadata(directory: pathlib.Path, encoder: Encoder, meaning: str) -> None:
    metadata = {
        "click_log": encoder.spec.name,
        "outputs": meaning,
        "features": {
            column.name: {"type": column.type, "list": column.is_list, "role": column.role}
            for column in encoder.spec.model_columns
        },
    }
    extra = directory / _EXTRA
    extra.mkdir()
    (extra / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _next_version(directory: pathlib.Path) -> int:
    versions = [int(p.name) for p in directory.glob("*") if p.name.isdecimal()]
    return 1 + max(versions, default=0)
