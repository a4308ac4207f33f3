"""Requests built with the official API of TensorFlow Serving, answered by its rules."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import input_pb2, prediction_log_pb2

from clsd_tf import serving_api
from clsd_tf.requests import to_candidates, to_dense
from clsd_tf.warmup import MAX_RECORDS, WARMUP, write_warmup_requests
from tests.serving.rules import Refused, served_by_rules
from tests.shop import CANDIDATES, ONCE, REQUESTS, features_of, serialized

TASKS = {"serving_default": "regress", "classify": "classify"}


@pytest.fixture(scope="module")
def server(shop_export):
    with served_by_rules(shop_export) as server:
        yield server


@pytest.fixture(scope="module")
def expected(shop_model, shop_encoder):
    """Scores of rows by the model itself."""

    def expected(rows):
        return tf.sigmoid(shop_model.backbone(features_of(shop_encoder, rows))).numpy()

    return expected


def model(signature: str):
    return serving_api.model_spec("shop", signature)


def merged() -> list[dict]:
    return [{**ONCE, **candidate} for candidate in CANDIDATES]


def test_predict_of_examples(server, expected):
    request = serving_api.predict_request(
        model("serving_default"), {"inputs": serialized(REQUESTS).numpy()}
    )
    (outputs,) = server.predict(request).outputs.values()
    np.testing.assert_allclose(tf.make_ndarray(outputs), expected(REQUESTS), atol=1e-6)


def test_predict_of_dense_features(server, shop_encoder, expected):
    request = serving_api.predict_request(
        model("predict_features"), to_dense(shop_encoder.spec, REQUESTS)
    )
    (outputs,) = server.predict(request).outputs.values()
    np.testing.assert_allclose(tf.make_ndarray(outputs), expected(REQUESTS), atol=1e-6)


def test_predict_of_candidates(server, shop_encoder, expected):
    request = serving_api.predict_request(
        model("predict_candidates"), to_candidates(shop_encoder.spec, ONCE, CANDIDATES)
    )
    (outputs,) = server.predict(request).outputs.values()
    np.testing.assert_allclose(tf.make_ndarray(outputs), [expected(merged())], atol=1e-6)


class TestContext:
    """What is the same for all candidates is sent once."""

    def test_regress(self, server, shop_encoder, expected):
        inputs = serving_api.row_input(shop_encoder.spec, CANDIDATES, ONCE)
        request = serving_api.regress_request(model("serving_default"), inputs)
        received = [r.value for r in server.regress(request).result.regressions]
        np.testing.assert_allclose(received, expected(merged()), atol=1e-6)

    def test_classify(self, server, shop_encoder, expected):
        inputs = serving_api.row_input(shop_encoder.spec, CANDIDATES, ONCE)
        result = server.classify(serving_api.classify_request(model("classify"), inputs)).result
        labels = [[c.label for c in each.classes] for each in result.classifications]
        assert labels == [["no_click", "click"]] * len(CANDIDATES)
        scores = [each.classes[1].score for each in result.classifications]
        np.testing.assert_allclose(scores, expected(merged()), atol=1e-6)

    def test_multi_inference(self, server, shop_encoder, expected):
        inputs = serving_api.row_input(shop_encoder.spec, CANDIDATES, ONCE)
        request = serving_api.multi_inference_request("shop", TASKS, inputs)
        regressed, classified = server.multi_inference(request).results
        values = [r.value for r in regressed.regression_result.regressions]
        np.testing.assert_allclose(values, expected(merged()), atol=1e-6)
        each = classified.classification_result.classifications
        np.testing.assert_allclose([c.classes[1].score for c in each], values, atol=1e-6)

    def test_features_of_an_example_win(self, server, shop_encoder, expected):
        row = {**ONCE, "user_id": 7}
        inputs = serving_api.row_input(shop_encoder.spec, [{**CANDIDATES[0], "user_id": 7}], ONCE)
        request = serving_api.regress_request(model("serving_default"), inputs)
        (received,) = server.regress(request).result.regressions
        assert received.value == pytest.approx(expected([{**row, **CANDIDATES[0]}])[0], abs=1e-6)
        assert abs(received.value - expected(merged())[0]) > 1e-4


class TestRefused:
    def test_no_examples(self, server):
        for inputs in (input_pb2.Input(), serving_api.examples_input([])):
            with pytest.raises(Refused, match="Input is empty"):
                server.regress(serving_api.regress_request(model("serving_default"), inputs))

    def test_other_inputs_than_the_signature_has(self, server, shop_encoder):
        inputs = to_dense(shop_encoder.spec, REQUESTS)
        del inputs["age"]
        with pytest.raises(Refused, match="input size does not match signature"):
            server.predict(serving_api.predict_request(model("predict_features"), inputs))

    def test_regress_of_a_dense_signature(self, server, shop_encoder):
        inputs = serving_api.row_input(shop_encoder.spec, REQUESTS)
        with pytest.raises(Refused, match="Expected one input"):
            server.regress(serving_api.regress_request(model("predict_features"), inputs))


class TestWarmUp:
    def test_the_file_is_replayed(self, server, shop_export):
        answered = {}
        for record in tf.data.TFRecordDataset(str(shop_export / WARMUP)).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            method = kind.removesuffix("_log")
            request = getattr(log, kind).request
            assert getattr(server, method)(request).ByteSize()
            spec = (
                request.tasks[0].model_spec if method == "multi_inference" else request.model_spec
            )
            assert spec.name == "shop"
            answered.setdefault(method, []).append(spec.signature_name)
        assert {method: len(names) for method, names in answered.items()} == {
            "predict": 8,
            "regress": 2,
            "classify": 2,
            "multi_inference": 2,
        }
        asked = {name for names in answered.values() for name in names}
        assert asked == set(server.signatures) - {"__saved_model_init_op"}

    def test_more_than_a_server_takes_are_refused(self, shop_encoder, tmp_path, monkeypatch):
        monkeypatch.setattr("clsd_tf.warmup.MAX_RECORDS", 3)
        assert MAX_RECORDS == 1000
        with pytest.raises(ValueError, match="at most 3 warm-up requests"):
            write_warmup_requests(tmp_path, shop_encoder, "shop", ["serving_default"], 1)
