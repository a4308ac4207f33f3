"""The example client over the wire, against a server that follows the rules of the real one."""

from __future__ import annotations

import base64
import concurrent.futures
import importlib.util
import json
import pathlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from clsd_tf.export import REQUESTS as SAMPLES
from tests.serving.rules import Refused, served_by_rules
from tests.shop import CANDIDATES, ONCE, example, features_of

PATH = pathlib.Path(__file__).resolve().parents[2] / "examples" / "serving_client.py"


@pytest.fixture(scope="module")
def client():
    """The module of the example."""
    spec = importlib.util.spec_from_file_location("serving_client", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served, self.labels = served, []

    def _answer(self, method: str, request, context):
        spec = getattr(request, "model_spec", None) or request.tasks[0].model_spec
        self.labels.append(spec.version_label)
        try:
            return getattr(self.served, method)(request)
        except (Refused, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def Predict(self, request, context):
        return self._answer("predict", request, context)

    def Regress(self, request, context):
        return self._answer("regress", request, context)

    def Classify(self, request, context):
        return self._answer("classify", request, context)

    def MultiInference(self, request, context):
        return self._answer("multi_inference", request, context)


@pytest.fixture(scope="module")
def server(shop_export):
    """Address and servicer."""
    with served_by_rules(shop_export) as served:
        servicer = Servicer(served)
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", servicer
        server.stop(None).wait()


def test_all_calls_give_the_scores_of_the_model(client, server, shop_model, shop_encoder):
    address, servicer = server
    asked = client.GrpcClient(address, "shop", label="canary", timeout=120.0)
    rows = [{**ONCE, **candidate} for candidate in CANDIDATES]
    expected = tf.sigmoid(shop_model.backbone(features_of(shop_encoder, rows))).numpy()
    once = {name: value for name, value in ONCE.items() if name != "segment"}
    for method in ("regress", "regress_and_classify", "predict"):
        received = getattr(asked, method)(once, CANDIDATES)
        np.testing.assert_allclose(received, expected, atol=1e-6, err_msg=method)
    classified = asked.classify(once, CANDIDATES)
    np.testing.assert_allclose([each["click"] for each in classified], expected, atol=1e-6)
    assert set(servicer.labels) == {"canary"}


def test_a_bad_request_is_an_invalid_argument(client, server):
    asked = client.GrpcClient(server[0], "shop", timeout=120.0)
    with pytest.raises(grpc.RpcError) as caught:
        asked.regress({"user_id": "seven"}, CANDIDATES)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "Data types don't match" in caught.value.details()


def test_the_sample_of_an_export_can_be_sent(client, server, shop_export):
    sample = json.loads((shop_export / "assets.extra" / SAMPLES).read_text())
    scores = client.GrpcClient(server[0], "shop", timeout=120.0).regress(
        sample["context"], sample["examples"]
    )
    assert len(scores) == 3
    assert all(0 < score < 1 for score in scores)


class TestBodiesOfRest:
    def test_context_and_examples(self, client):
        once = {"user_id": 7, "age": 18.0, "click_history": []}
        assert json.dumps(client.regress_body(once, [{"item_id": "fig"}])) == (
            '{"context": {"user_id": 7, "age": 18.0}, "examples": [{"item_id": "fig"}]}'
        )

    def test_bytes_are_b64(self, client):
        body = client.b64_body({"user_id": 7}, [{"item_id": "fig"}])
        assert body["signature_name"] == "serving_default"
        ((key, text),) = body["instances"][0].items()
        assert key == "b64"
        received = tf.train.Example.FromString(base64.b64decode(text))
        assert received == example({"user_id": 7, "item_id": "fig"})

    def test_rows_and_columns(self, client):
        assert client.row_body("predict_features", [{"user_id": 7}]) == {
            "signature_name": "predict_features",
            "instances": [{"user_id": 7}],
        }
        columns = {"user_id": [7], "item_id": [["fig", "pear"]]}
        assert client.column_body("predict_candidates", columns)["inputs"] == columns
