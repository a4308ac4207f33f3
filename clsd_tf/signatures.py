"""The signatures of an export, all of one spec.

  serving_default     `inputs`: `tf.train.Example`s -> `outputs` [batch]
  classify            `inputs`: `tf.train.Example`s -> `classes`, `scores` [batch, 2]
  predict_features    a dense tensor for each raw column -> `outputs` [batch]
  predict_candidates  the user's columns once, the items' [batch, candidates] -> `outputs` likewise
  predict_encoded     model features, numbers only -> `outputs` [batch]; for other engines
  confidence          on request: `inputs`: `tf.train.Example`s -> `outputs` [batch]

The first two have the shapes of the Regress and Classify API of TensorFlow Serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeAlias

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones.base import Backbone
from clsd_tf.batches import logits_of
from clsd_tf.candidates import CandidateFeatures
from clsd_tf.confidence import combine
from clsd_tf.encoding import Encoder
from clsd_tf.entities import candidate_columns
from clsd_tf.features import ColumnSpec, ModelFeature
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.parsing import group_parsing_spec, parsing_spec
from clsd_tf.requests import mask_name

Signature: TypeAlias = tf.types.experimental.ConcreteFunction
CLASSES = ("no_click", "click")
_EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")
_DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}


def build_signatures(backbone: keras.layers.Layer, encoder: Encoder) -> dict[str, Signature]:
    """Traces what a backbone and the encoding of its log can be asked, without confidence.

    Raises:
      ValueError: a column is called like the mask of a list.
    """
    spec = encoder.spec
    _check_names(spec.model_columns)
    candidates = {column.name for column in candidate_columns(spec)}
    # There is no control flow to convert, and AutoGraph warns of what it cannot.
    encode = tf.autograph.experimental.do_not_convert(encoder.__call__)
    encode_column = tf.autograph.experimental.do_not_convert(encoder.encode_column)

    def predict_encoded(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tf.sigmoid(logits_of(backbone, features))}

    # Traced once and called by all others, but by `predict_candidates` where candidates can share.
    encoded = {feature.name: _encoded_spec(feature) for feature in encoder.model_features}
    score = tf.function(predict_encoded).get_concrete_function(**encoded)

    def score_examples(inputs: tf.Tensor) -> tf.Tensor:
        raw = tf.io.parse_example(inputs, parsing_spec(spec, serving=True))
        return score(**encode(raw))["outputs"]

    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": score_examples(inputs)}

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        click = score_examples(inputs)
        classes = tf.repeat(tf.constant([CLASSES]), tf.size(click), axis=0)
        return {"classes": classes, "scores": tf.stack([1.0 - click, click], axis=1)}

    def predict_features(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": score(**encode(_with_lists(raw, spec.model_columns)))["outputs"]}

    def predict_candidates(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        batch, count = tf.unstack(tf.shape(raw[spec.item.name])[:2])
        _check_alike(raw, spec.item.name, candidates)
        once, own = {}, {}
        for column in spec.model_columns:
            names = [column.name, *([mask_name(column)] if column.is_list else [])]
            if column.name in candidates:  # [batch, candidates, ...] -> [batch * candidates, ...]
                flat = {name: _merged(raw[name]) for name in names}
                own[column.name] = encode_column(column, _raw_values(flat, column))
            else:
                values = encode_column(column, _raw_values(raw, column))
                # A user's column of another length than the items' is an error, not a user more.
                once[column.name] = tf.reshape(values, [batch, *values.shape[1:]])
        features = CandidateFeatures(once, own, batch, count)
        if isinstance(backbone, Backbone) and backbone.can_share:
            click = tf.sigmoid(backbone.candidate_logits(features))
        else:
            click = score(**features.repeated())["outputs"]
        return {"outputs": tf.reshape(click, [batch, count])}

    dense: dict[str, tf.TensorSpec] = {}
    by_candidate: dict[str, tf.TensorSpec] = {}
    for column in spec.model_columns:
        once = _raw_specs(column, [None])
        dense |= once
        by_candidate |= _raw_specs(column, [None, None]) if column.name in candidates else once
    signatures = {
        "serving_default": tf.function(serving_default).get_concrete_function(_EXAMPLES),
        "classify": tf.function(classify).get_concrete_function(_EXAMPLES),
        "predict_features": tf.function(predict_features).get_concrete_function(**dense),
        "predict_encoded": score,
    }
    if spec.item.name in candidates:  # else the item is no input, and candidates are all alike
        signatures["predict_candidates"] = tf.function(predict_candidates).get_concrete_function(
            **by_candidate
        )
    return signatures


def build_confidence(model: ClickConfidenceModel, encoder: Encoder) -> Signature:
    """Traces the confidence that a click of a raw row would have, if it were clicked.

    Raises:
      ValueError: the model has no confidence function, or no teacher that can score new rows.
    """
    teacher, confidence = model.teacher, model.confidence
    if confidence is None or teacher is None or not teacher.weights:
        raise ValueError(
            "The signature `confidence` needs a model with a confidence function and a teacher of "
            f"weights. Received: {type(confidence).__name__} and {type(teacher).__name__}. Export "
            "without it, or a model that was trained by a frozen or an EMA teacher."
        )
    group = encoder.spec.group
    encode = tf.autograph.experimental.do_not_convert(encoder.__call__)

    def signature(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = parsing_spec(encoder.spec, serving=True) | group_parsing_spec(encoder.spec)
        raw = tf.io.parse_example(inputs, columns)
        logits = logits_of(teacher, encode(raw))
        zeros = tf.zeros_like(logits, tf.int64)
        groups = zeros if group is None else encoder.encode_group(raw[group.name])
        return {"outputs": combine(*confidence(logits, groups), alpha=model.alpha)}

    return tf.function(signature).get_concrete_function(_EXAMPLES)


def _with_lists(
    raw: Mapping[str, tf.Tensor], columns: tuple[ColumnSpec, ...]
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    return {column.name: _raw_values(raw, column) for column in columns}


def _raw_values(raw: Mapping[str, tf.Tensor], column: ColumnSpec) -> tf.Tensor | tf.RaggedTensor:
    values = raw[column.name]
    return tf.ragged.boolean_mask(values, raw[mask_name(column)]) if column.is_list else values


def _check_alike(raw: Mapping[str, tf.Tensor], item: str, columns: Set[str]) -> None:
    """Makes it an error that a column has other requests or candidates than the item has."""
    others = sorted(columns - {item})
    if others:
        sizes = tf.stack([tf.shape(raw[name])[:2] for name in [item, *others]])
        tf.debugging.Assert(
            tf.reduce_all(sizes == sizes[:1]),
            [
                f"Columns of candidates must be [requests, candidates] alike. Received, for "
                f"{', '.join([item, *others])}:",
                sizes,
            ],
            summarize=100,
        )


def _merged(values: tf.Tensor) -> tf.Tensor:
    """[batch, candidates, ...] -> [batch * candidates, ...]."""
    return tf.reshape(values, [-1, *values.shape[2:]])


def _raw_specs(column: ColumnSpec, batch: list[None]) -> dict[str, tf.TensorSpec]:
    shape = [*batch, column.max_length] if column.is_list else batch
    specs = {column.name: tf.TensorSpec(shape, _DTYPES[column.type], name=column.name)}
    if column.is_list:
        specs[mask_name(column)] = tf.TensorSpec(shape, tf.bool, name=mask_name(column))
    return specs


def _encoded_spec(feature: ModelFeature) -> tf.TensorSpec:
    dtype = tf.float32 if feature.kind == "numeric" else tf.int64
    shape = [None, feature.length] if feature.is_list else [None]
    return tf.TensorSpec(shape, dtype, name=feature.name)


def _check_names(columns: tuple[ColumnSpec, ...]) -> None:
    names = {column.name for column in columns}
    for column in columns:
        if column.is_list and mask_name(column) in names:
            raise ValueError(
                f"A dense request has the mask of list '{column.name}' under the name "
                f"'{mask_name(column)}'. Received: a column of that name. Rename the column and "
                "set `source`."
            )
