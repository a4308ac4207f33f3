"""An export is served by TensorFlow alone and holds what a plain model's export holds."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.backbones import get_backbone
from clsd_tf.candidates import CandidateFeatures
from clsd_tf.entities import candidate_columns
from clsd_tf.export import METADATA, export_model
from clsd_tf.model import ClickConfidenceModel
from tests.shop import REQUESTS, example, features_of, op_histogram, serialized, variable_bytes

# What a server does: no clsd_tf, no tf_keras, no path to them.
RELOAD = """
import json, sys, tensorflow as tf
sys.modules["clsd_tf"] = None
served = tf.saved_model.load(sys.argv[1])
examples = [bytes.fromhex(e) for e in json.load(sys.stdin)]
outputs = served.signatures["serving_default"](inputs=tf.constant(examples))["outputs"]
print(json.dumps(outputs.numpy().tolist()))
"""


@pytest.fixture(scope="module")
def plain_export(shop_model, shop_encoder, tmp_path_factory) -> pathlib.Path:
    """The export of a backbone that nobody taught."""
    backbone = get_backbone("din", shop_encoder.model_features, units=[8])
    backbone(features_of(shop_encoder, REQUESTS))
    return export_model(backbone, shop_encoder, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def with_confidence(shop_model, shop_encoder, tmp_path_factory) -> pathlib.Path:
    return export_model(
        shop_model, shop_encoder, tmp_path_factory.mktemp("confidence"), 7, with_confidence=True
    )


def test_reloaded_without_this_package_it_scores_raw_requests_as_predict_does(
    shop_model, shop_encoder, shop_export
):
    done = subprocess.run(
        [sys.executable, "-P", "-c", RELOAD, str(shop_export)],
        input=json.dumps([example(row).SerializeToString().hex() for row in REQUESTS]),
        capture_output=True,
        text=True,
        check=True,
        cwd=shop_export,
    )
    scores = np.array(json.loads(done.stdout))
    expected = shop_model.predict(features_of(shop_encoder, REQUESTS), verbose=0)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores, expected, atol=1e-5)


class TestNothingExtra:
    def test_operation_for_operation_it_is_the_plain_backbone(self, shop_export, plain_export):
        assert op_histogram(shop_export) == op_histogram(plain_export)
        assert op_histogram(shop_export)["MatMul"] > 0

    def test_byte_for_byte_of_variables(self, shop_export, plain_export, shop_model):
        weights = sum(int(np.prod(w.shape)) * 4 for w in shop_model.backbone.weights)
        assert variable_bytes(shop_export) == variable_bytes(plain_export) == weights

    def test_the_files_are_as_small(self, shop_export, plain_export):
        sizes = [(p / "saved_model.pb").stat().st_size for p in (shop_export, plain_export)]
        assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]

    def test_the_backbone_stands_in_it_twice(self, shop_export, shop_model, shop_encoder):
        """Once for rows and once for candidates, whatever the number of signatures."""
        backbone, features = shop_model.backbone, features_of(shop_encoder, REQUESTS)
        items = {column.name for column in candidate_columns(shop_encoder.spec)}

        def score_candidates(rows):
            once = {name: rows[name][:1] for name in rows if name not in items}
            own = {name: rows[name] for name in items}
            count = tf.size(rows[shop_encoder.spec.item.name])
            return backbone.candidate_logits(CandidateFeatures(once, own, tf.constant(1), count))

        def reads(score) -> int:
            graph = tf.function(score).get_concrete_function(features).graph
            return sum(op.type == "ResourceGatherNd" for op in graph.get_operations())

        expected = reads(lambda rows: backbone(rows)) + reads(score_candidates)
        assert op_histogram(shop_export)["ResourceGatherNd"] == expected > 0

    def test_without_being_asked_for_there_is_no_confidence(self, shop_served):
        assert "confidence" not in shop_served


class TestConfidence:
    def test_is_what_training_would_give_the_clicks(
        self, with_confidence, shop_model, shop_encoder
    ):
        rows = [{**row, "segment": place % 2} for place, row in enumerate(REQUESTS)]
        served = tf.saved_model.load(str(with_confidence)).signatures["confidence"]
        received = served(inputs=serialized(rows))["outputs"]
        logits = shop_model.teacher(features_of(shop_encoder, rows))
        groups = tf.constant([1, 2, 1, 2], tf.int64)  # of identity ids, one less
        pooled, local = shop_model.confidence(logits, groups)
        expected = pooled ** (1 - shop_model.alpha) * local**shop_model.alpha
        np.testing.assert_allclose(received, expected, rtol=1e-5)

    def test_the_served_score_stays_the_same(self, with_confidence, shop_served):
        other = tf.saved_model.load(str(with_confidence)).signatures["serving_default"]
        inputs = serialized(REQUESTS)
        np.testing.assert_array_equal(
            other(inputs=inputs)["outputs"],
            shop_served["serving_default"](inputs=inputs)["outputs"],
        )

    def test_needs_a_teacher(self, shop_model, shop_encoder, tmp_path):
        plain = ClickConfidenceModel(shop_model.backbone)
        with pytest.raises(ValueError, match="a confidence function and a teacher of weights"):
            export_model(plain, shop_encoder, tmp_path, with_confidence=True)
        with pytest.raises(ValueError, match="Only a `ClickConfidenceModel` knows"):
            export_model(shop_model.backbone, shop_encoder, tmp_path, with_confidence=True)
        assert list(tmp_path.iterdir()) == []


def test_vocabularies_travel_as_assets(shop_export):
    assert {p.name for p in (shop_export / "assets").iterdir()} == {"user_id.txt", "item_id.txt"}


def test_says_what_its_output_means(shop_export, shop_model, shop_encoder):
    metadata = json.loads((shop_export / "assets.extra" / METADATA).read_text())
    assert metadata["outputs"] == shop_model.output_meaning
    assert metadata["click_log"] == "shop"
    assert metadata["tables"] == {"dtype": "float32", "pruned": False}
    assert set(metadata["features"]) == {c.name for c in shop_encoder.spec.model_columns}
    assert metadata["features"]["price"]["describes"] == "item"
    assert metadata["features"]["click_history"] == {
        "type": "string",
        "list": True,
        "length": 3,
        "role": "feature",
        "describes": "user",
    }


class TestVersions:
    def test_are_numbered_by_the_caller_or_counted_up(self, with_confidence, shop_export):
        assert (with_confidence.name, shop_export.name) == ("7", "1")

    def test_appear_whole_or_not_at_all(self, shop_model, shop_encoder, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            (pathlib.Path(args[1]) / "variables").mkdir(parents=True)
            raise OSError("disk full")

        monkeypatch.setattr(tf.saved_model, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            export_model(shop_model, shop_encoder, tmp_path / "served")
        assert list((tmp_path / "served").glob("**/*")) == []
