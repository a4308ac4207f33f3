"""Raw rows as requests of TensorFlow Serving's gRPC API. Needs the extra `serving`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.requests import Row, to_example

try:
    from tensorflow_serving.apis import (
        classification_pb2,
        inference_pb2,
        input_pb2,
        model_pb2,
        predict_pb2,
        regression_pb2,
    )
except ImportError as error:
    raise ImportError(
        "Requests of TensorFlow Serving are made with its API. Received: no package "
        "`tensorflow-serving-api`. Install the extra: pip install 'clsd_tf[serving]'."
    ) from error

METHODS = {"regress": "tensorflow/serving/regress", "classify": "tensorflow/serving/classify"}


def model_spec(
    name: str, signature: str, *, version: int | None = None, label: str | None = None
) -> model_pb2.ModelSpec:
    """Which signature of which version is asked, the latest where neither is given."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    elif label is not None:
        spec.version_label = label
    return spec


def predict_request(
    model: model_pb2.ModelSpec, inputs: Mapping[str, np.ndarray | Sequence[bytes]]
) -> predict_pb2.PredictRequest:
    """A Predict request of tensors."""
    request = predict_pb2.PredictRequest(model_spec=model)
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def examples_input(
    examples: Iterable[tf.train.Example], context: tf.train.Example | None = None
) -> input_pb2.Input:
    """The input of Regress, Classify and MultiInference.

    Args:
      examples: one for each answer.
      context: features that are the same for all of them, sent once; those of an example win.
    """
    if context is None:
        return input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples))
    return input_pb2.Input(
        example_list_with_context=input_pb2.ExampleListWithContext(
            examples=examples, context=context
        )
    )


def row_input(
    spec: ClickLogSpec,
    rows: Sequence[Row],
    once: Row | None = None,
    extra: Sequence[ColumnSpec] = (),
) -> input_pb2.Input:
    """The same of raw rows; `once` is what is the same for all of them."""
    context = None if once is None else to_example(spec, once, extra)
    return examples_input([to_example(spec, row, extra) for row in rows], context)


def regress_request(
    model: model_pb2.ModelSpec, inputs: input_pb2.Input
) -> regression_pb2.RegressionRequest:
    """A Regress request."""
    return regression_pb2.RegressionRequest(model_spec=model, input=inputs)


def classify_request(
    model: model_pb2.ModelSpec, inputs: input_pb2.Input
) -> classification_pb2.ClassificationRequest:
    """A Classify request."""
    return classification_pb2.ClassificationRequest(model_spec=model, input=inputs)


def multi_inference_request(
    name: str, tasks: Mapping[str, str], inputs: input_pb2.Input
) -> inference_pb2.MultiInferenceRequest:
    """Several signatures of the same examples.

    Args:
      name: of the model.
      tasks: signature -> "regress" or "classify".
      inputs: of all.
    """
    return inference_pb2.MultiInferenceRequest(
        tasks=[
            inference_pb2.InferenceTask(
                model_spec=model_spec(name, signature), method_name=METHODS[method]
            )
            for signature, method in tasks.items()
        ],
        input=inputs,
    )
