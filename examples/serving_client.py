r"""Asks a server of TensorFlow Serving what an export of clsd_tf scores, by gRPC or by REST.

    python examples/serving_client.py --model=click_model --label=stable \
        --requests=served/click_model/1/assets.extra/requests.json

Such a file comes with each export: a user once (`context`) and candidates (`examples`), raw values
by column; what is missing is left out. Whole numbers are int64, others float, texts bytes. The
client needs `tensorflow-serving-api`, nothing of clsd_tf. Copy what you need.
"""

from __future__ import annotations

import argparse
import base64
import json
import pathlib
import urllib.request
from collections.abc import Mapping, Sequence

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

Row = Mapping[str, object]
_REGRESS, _CLASSIFY = "tensorflow/serving/regress", "tensorflow/serving/classify"


def to_example(row: Row) -> tf.train.Example:
    """A row as a `tf.train.Example`; what is missing is not in it."""
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        if not values:
            continue
        feature = example.features.feature[name]
        if isinstance(values[0], str):
            feature.bytes_list.value.extend(text.encode() for text in values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return example


class GrpcClient:
    """A model of a server, by gRPC.

    Args:
      address: such as "localhost:8500".
      model: name of the model.
      label: of the version, such as "stable" or "canary"; None for the latest.
    """

    def __init__(self, address: str, model: str, label: str | None = None, timeout: float = 10.0):
        """See the class."""
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel(address)
        )
        self._model, self._label, self._timeout = model, label, timeout

    def regress(self, context: Row, examples: Sequence[Row]) -> list[float]:
        """The probability of each candidate; the user's features are sent once."""
        request = regression_pb2.RegressionRequest(
            model_spec=self._spec("serving_default"), input=self._input(context, examples)
        )
        answer = self._stub.Regress(request, self._timeout)
        return [each.value for each in answer.result.regressions]

    def classify(self, context: Row, examples: Sequence[Row]) -> list[dict[str, float]]:
        """Class -> probability, of each candidate."""
        request = classification_pb2.ClassificationRequest(
            model_spec=self._spec("classify"), input=self._input(context, examples)
        )
        answer = self._stub.Classify(request, self._timeout)
        return [
            {label.label: label.score for label in each.classes}
            for each in answer.result.classifications
        ]

    def regress_and_classify(self, context: Row, examples: Sequence[Row]) -> list[float]:
        """Both of the same examples in one request; returns what the first one answers."""
        signatures = {"serving_default": _REGRESS, "classify": _CLASSIFY}
        request = inference_pb2.MultiInferenceRequest(
            tasks=[
                inference_pb2.InferenceTask(model_spec=self._spec(name), method_name=method)
                for name, method in signatures.items()
            ],
            input=self._input(context, examples),
        )
        regressed, _ = self._stub.MultiInference(request, self._timeout).results
        return [each.value for each in regressed.regression_result.regressions]

    def predict(self, context: Row, examples: Sequence[Row]) -> list[float]:
        """The same by Predict, which takes serialized Examples, each of them whole."""
        request = predict_pb2.PredictRequest(model_spec=self._spec("serving_default"))
        whole = [to_example({**context, **row}).SerializeToString() for row in examples]
        request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(whole))
        answer = self._stub.Predict(request, self._timeout)
        return tf.make_ndarray(answer.outputs["outputs"]).tolist()

    def _spec(self, signature: str) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self._model, signature_name=signature)
        if self._label is not None:
            spec.version_label = self._label
        return spec

    @staticmethod
    def _input(context: Row, examples: Sequence[Row]) -> input_pb2.Input:
        return input_pb2.Input(
            example_list_with_context=input_pb2.ExampleListWithContext(
                context=to_example(context), examples=[to_example(row) for row in examples]
            )
        )


class RestClient:
    """A model of a server, by REST.

    Args:
      address: such as "http://localhost:8501".
      model: name of the model.
      label: of the version; None for the latest.
    """

    def __init__(self, address: str, model: str, label: str | None = None, timeout: float = 10.0):
        """See the class."""
        version = "" if label is None else f"/labels/{label}"
        self._url, self._timeout = f"{address}/v1/models/{model}{version}", timeout

    def regress(self, context: Row, examples: Sequence[Row]) -> list[float]:
        """`context` and `examples`: a recommendation request as it is."""
        return self._post("regress", regress_body(context, examples))["results"]

    def classify(self, context: Row, examples: Sequence[Row]) -> list[dict[str, float]]:
        """Class -> probability, of each candidate."""
        body = {"signature_name": "classify", **regress_body(context, examples)}
        return [dict(each) for each in self._post("classify", body)["results"]]

    def predict(self, context: Row, examples: Sequence[Row]) -> list[float]:
        """Rows of serialized Examples."""
        return self._post("predict", b64_body(context, examples))["predictions"]

    def predict_candidates(self, columns: Mapping[str, object]) -> list[list[float]]:
        """Columns of raw values: the user's [users], the items' [users, candidates]."""
        return self._post("predict", column_body("predict_candidates", columns))["outputs"]

    def predict_features(self, rows: Sequence[Row]) -> list[float]:
        """Rows of raw values, all columns in each."""
        return self._post("predict", row_body("predict_features", rows))["predictions"]

    def _post(self, method: str, body: Mapping[str, object]) -> dict[str, object]:
        request = urllib.request.Request(
            f"{self._url}:{method}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=self._timeout) as answer:
            return json.loads(answer.read())


def regress_body(context: Row, examples: Sequence[Row]) -> dict[str, object]:
    """Body of :regress and :classify. An empty list is left out: it is of no type."""
    listed = [{n: v for n, v in row.items() if v != []} for row in (context, *examples)]
    return {"context": listed[0], "examples": listed[1:]}


def b64_body(context: Row, examples: Sequence[Row]) -> dict[str, object]:
    """Body of :predict. JSON has no bytes: an object with the one key `b64` stands for them."""
    whole = (to_example({**context, **row}).SerializeToString() for row in examples)
    return {
        "signature_name": "serving_default",
        "instances": [{"b64": base64.b64encode(one).decode()} for one in whole],
    }


def row_body(signature: str, rows: Sequence[Row]) -> dict[str, object]:
    """Body of :predict in rows: each instance has all inputs of the signature."""
    return {"signature_name": signature, "instances": list(rows)}


def column_body(signature: str, columns: Mapping[str, object]) -> dict[str, object]:
    """Body of :predict in columns: an input may have a first dimension of its own."""
    return {"signature_name": signature, "inputs": dict(columns)}


def main() -> None:
    """Sends the requests of a file and prints the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", required=True, help="requests.json of an export")
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--label", help="stable, canary; the latest version by default")
    parser.add_argument("--grpc", default="localhost:8500", help="address; empty for none")
    parser.add_argument("--rest", default="http://localhost:8501", help="address; empty for none")
    arguments = parser.parse_args()
    text = pathlib.Path(arguments.requests).read_text(encoding="utf-8")
    request = json.loads(text)
    context, examples = request["context"], request["examples"]
    if arguments.grpc:
        client = GrpcClient(arguments.grpc, arguments.model, arguments.label)
        for method in ("regress", "classify", "regress_and_classify", "predict"):
            print(f"gRPC {method}: {getattr(client, method)(context, examples)}")
    if arguments.rest:
        rest = RestClient(arguments.rest, arguments.model, arguments.label)
        for method in ("regress", "classify", "predict"):
            print(f"REST {method}: {getattr(rest, method)(context, examples)}")


if __name__ == "__main__":
    main()
