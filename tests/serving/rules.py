"""The request contract of TensorFlow Serving, as its sources have it, on a session without Python.

Requests are messages of the official API; what is checked, and how inputs become tensors, follows
predict_util.cc, regressor.cc, classifier.cc, multi_inference.cc and util.cc of TensorFlow Serving.
A real server, where there is one, is asked in `test_model_server.py`.
"""

from __future__ import annotations

import contextlib
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

DEFAULT = "serving_default"
REGRESS, CLASSIFY = "tensorflow/serving/regress", "tensorflow/serving/classify"
v1 = tf.compat.v1


class Refused(Exception):
    """A request that the server answers with INVALID_ARGUMENT before the graph is run."""


class ServedByRules:
    """A version of a model, loaded as the server loads it."""

    def __init__(self, path: pathlib.Path):
        self._session = v1.Session(graph=tf.Graph())
        # The loader of TensorFlow 1 is said to be deprecated; it is what a session has.
        log = tf.get_logger()
        level, _ = log.level, log.setLevel("ERROR")
        with self._session.graph.as_default():
            graph = v1.saved_model.load(self._session, ["serve"], str(path))
        log.setLevel(level)
        self.signatures = graph.signature_def

    def close(self) -> None:
        self._session.close()

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        signature = self._signature(request.model_spec)
        if set(request.inputs) != set(signature.inputs):
            raise Refused(
                f"input size does not match signature: {set(request.inputs)} != "
                f"{set(signature.inputs)}"
            )
        feed = {}
        for name, proto in request.inputs.items():
            if proto.dtype != signature.inputs[name].dtype:
                raise Refused(f"input {name} is of type {proto.dtype}")
            feed[signature.inputs[name].name] = tf.make_ndarray(proto)
        names = request.output_filter or list(signature.outputs)
        values = self._session.run([signature.outputs[n].name for n in names], feed)
        response = predict_pb2.PredictResponse()
        for name, value in zip(names, values, strict=True):
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest
    ) -> regression_pb2.RegressionResponse:
        names = self._regress_names(self._signature(request.model_spec))
        result = self._regressions(*self._run(request.input, names))
        return regression_pb2.RegressionResponse(result=result)

    def classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        names = self._classify_names(self._signature(request.model_spec))
        result = self._classifications(*self._run(request.input, names))
        return classification_pb2.ClassificationResponse(result=result)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> inference_pb2.MultiInferenceResponse:
        if len({task.model_spec.name for task in request.tasks}) != 1:
            raise Refused("All ModelSpecs in a MultiInferenceRequest must access the same model")
        seen, inputs, of_task = set(), set(), []
        for task in request.tasks:
            name = task.model_spec.signature_name or DEFAULT
            if name in seen:
                raise Refused("Duplicate evaluation of signature")
            seen.add(name)
            signature = self._signature(task.model_spec)
            if task.method_name == REGRESS:
                names, result = self._regress_names(signature), "regression_result"
            elif task.method_name == CLASSIFY:
                names, result = self._classify_names(signature), "classification_result"
            else:
                raise Refused(f"Unsupported signature method_name: {task.method_name}")
            inputs.add(names[0])
            of_task.append((task, names, result))
        if len(inputs) != 1:
            raise Refused("Input tensor must be the same for all Signatures.")
        response = inference_pb2.MultiInferenceResponse()
        for task, names, result in of_task:
            run = self._run(request.input, names)
            make = self._regressions if result == "regression_result" else self._classifications
            response.results.add(model_spec=task.model_spec, **{result: make(*run)})
        return response

    def _signature(self, model_spec):
        name = model_spec.signature_name or DEFAULT
        if name not in self.signatures:
            raise Refused(f"No signature was found with the name: {name}")
        return self.signatures[name]

    def _regress_names(self, signature) -> tuple[str, list[str]]:
        if len(signature.inputs) != 1 or len(signature.outputs) != 1:
            raise Refused("Expected one input and one output Tensor.")
        if "inputs" not in signature.inputs or "outputs" not in signature.outputs:
            raise Refused("No regression inputs or outputs found in SignatureDef")
        return signature.inputs["inputs"].name, [signature.outputs["outputs"].name]

    def _classify_names(self, signature) -> tuple[str, list[str]]:
        if len(signature.inputs) != 1 or "inputs" not in signature.inputs:
            raise Refused("Expected one input Tensor, called inputs.")
        if not set(signature.outputs) <= {"classes", "scores"} or not signature.outputs:
            raise Refused("Expected classification signature outputs: classes, scores")
        outputs = [signature.outputs[name].name for name in ("classes", "scores")]
        return signature.inputs["inputs"].name, outputs

    def _run(self, source, names: tuple[str, list[str]]) -> tuple[int, list[np.ndarray]]:
        examples = _serialized(source)
        if not examples:
            raise Refused("Input is empty.")
        outputs = self._session.run(names[1], {names[0]: np.array(examples, object)})
        return len(examples), outputs

    def _regressions(self, count: int, outputs: list[np.ndarray]):
        (values,) = outputs
        if values.dtype != np.float32 or len(values) != count:
            raise Refused("Expected float outputs, one for each example")
        if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
            raise Refused("Expected Tensor shape: [batch_size] or [batch_size, 1]")
        result = regression_pb2.RegressionResult()
        for value in values.ravel():
            result.regressions.add(value=value)
        return result

    def _classifications(self, count: int, outputs: list[np.ndarray]):
        classes, scores = outputs
        if classes.ndim != 2 or scores.ndim != 2 or classes.shape != scores.shape:
            raise Refused("Expected Tensor shape: [batch_size num_classes]")
        if classes.dtype != object or scores.dtype != np.float32 or len(scores) != count:
            raise Refused("Expected strings and floats, a row for each example")
        result = classification_pb2.ClassificationResult()
        for labels, values in zip(classes, scores, strict=True):
            one = result.classifications.add()
            for label, value in zip(labels, values, strict=True):
                one.classes.add(label=label, score=value)
        return result


def _serialized(source) -> list[bytes]:
    """Examples of an `Input`: the bytes of the context are put before those of each example."""
    kind = source.WhichOneof("kind")
    if kind is None:
        return []
    if kind == "example_list":
        return [example.SerializeToString() for example in source.example_list.examples]
    listed = source.example_list_with_context
    context = listed.context.SerializeToString()
    return [context + example.SerializeToString() for example in listed.examples]


@contextlib.contextmanager
def served_by_rules(path: pathlib.Path):
    served = ServedByRules(path)
    try:
        yield served
    finally:
        served.close()
