"""An export is served by TensorFlow alone and gives what the trained model gives."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.backbones import get_backbone
from clsd_tf.encoding import Encoder, EncodingTables, vocabulary_path
from clsd_tf.export import METADATA, export_model
from clsd_tf.model import ClickConfidenceModel

SPEC = """
name = "shop"
[split]
by = "time"
[history]
length = 3
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary", num_oov = 2 }
scene = { type = "int", encoding = "identity", num_values = 4 }
age = { type = "float", encoding = "buckets", boundaries = [18.0, 30.0] }
price = { type = "float", encoding = "numeric", scaling = "log" }
segment = { role = "group", type = "int", encoding = "identity", num_values = 2 }
click = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""
REQUESTS = [
    {"user_id": 7, "item_id": "fig", "click_history": ["pear", "kiwi"], "age": 18.0, "price": 3.0},
    {"user_id": 8, "item_id": "kiwi", "scene": 3, "click_history": []},
    {"item_id": "pear", "click_history": ["fig"] * 5, "age": 44.5, "price": -1.0, "scene": 9},
    {},
]
# What a server does: no clsd_tf, no tf_keras, no path to them.
RELOAD = """
import json, sys, tensorflow as tf
sys.modules["clsd_tf"] = None
served = tf.saved_model.load(sys.argv[1])
examples = [bytes.fromhex(e) for e in json.load(sys.stdin)]
outputs = served.signatures["serving_default"](inputs=tf.constant(examples))["outputs"]
print(json.dumps(outputs.numpy().tolist()))
"""


def encoded(row: dict) -> tf.train.Example:
    kinds = {int: "int64_list", float: "float_list", str: "bytes_list"}
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        if values:
            field = getattr(example.features.feature[name], kinds[type(values[0])])
            field.value.extend(v.encode() if isinstance(v, str) else v for v in values)
    return example


@pytest.fixture
def encoder(tmp_path) -> Encoder:
    directory = tmp_path / "encoding"
    (directory / "vocab").mkdir(parents=True)
    (directory / "spec.toml").write_text(SPEC)
    for column, tokens in {"user_id": ["7", "9"], "item_id": ["fig", "pear"]}.items():
        vocabulary_path(directory, column).write_text("".join(f"{t}\n" for t in tokens))
    EncodingTables(vocabulary_sizes={"user_id": 2, "item_id": 2}).save(directory)
    return Encoder.load(directory)


@pytest.fixture
def model(encoder) -> ClickConfidenceModel:
    teacher, backbone = (get_backbone("din", encoder.model_features, units=[8]) for _ in range(2))
    model = ClickConfidenceModel(backbone, teacher, "affine", num_groups=encoder.num_groups)
    model(features_of(encoder, REQUESTS))
    teacher(features_of(encoder, REQUESTS))
    for layer in (backbone, teacher):  # scores far apart
        layer.set_weights([w * 8.0 for w in layer.get_weights()])
    return model


def features_of(encoder: Encoder, rows: list[dict]) -> dict[str, tf.Tensor]:
    """Raw rows through the encoder, without parsing."""
    missing = {"int": -(2**63), "float": float("nan"), "string": ""}
    dtypes = {"int": tf.int64, "float": tf.float32, "string": tf.string}
    raw = {}
    for column in encoder.spec.model_columns:
        if column.is_list:
            raw[column.name] = tf.ragged.constant(
                [row.get(column.name, []) for row in rows], dtypes[column.type], ragged_rank=1
            )
        else:
            values = [row.get(column.name, missing[column.type]) for row in rows]
            raw[column.name] = tf.constant(values, dtypes[column.type])
    return encoder(raw)


def test_reloaded_without_this_package_it_scores_raw_requests_as_predict_does(
    model, encoder, tmp_path
):
    path = export_model(model, encoder, tmp_path / "served")
    serialized = [encoded(row).SerializeToString().hex() for row in REQUESTS]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RELOAD, str(path)],
        input=json.dumps(serialized),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    scores = np.array(json.loads(done.stdout))
    expected = model.predict(features_of(encoder, REQUESTS), verbose=0)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_dense_signature(model, encoder, tmp_path):
    served = tf.saved_model.load(str(export_model(model, encoder, tmp_path)))
    features = features_of(encoder, REQUESTS)
    signature = served.signatures["predict_features"]
    assert set(signature.structured_input_signature[1]) == set(features)
    np.testing.assert_allclose(
        signature(**features)["outputs"], model.predict(features, verbose=0), atol=1e-6
    )


def test_regress_shape(model, encoder, tmp_path):
    served = tf.saved_model.load(str(export_model(model, encoder, tmp_path)))
    signature = served.signatures["serving_default"]
    assert signature.structured_input_signature[1] == {
        "inputs": tf.TensorSpec([None], tf.string, name="inputs")
    }
    assert {k: (v.shape.rank, v.dtype) for k, v in signature.structured_outputs.items()} == {
        "outputs": (1, tf.float32)
    }
    assert signature(inputs=tf.constant([], tf.string))["outputs"].shape == (0,)


def test_holds_the_backbone_and_neither_teacher_nor_confidence(model, encoder, tmp_path):
    path = export_model(model, encoder, tmp_path)
    stored = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    shapes = stored.get_variable_to_shape_map()
    numbers = sum(int(np.prod(s)) for n, s in shapes.items() if n != "_CHECKPOINTABLE_OBJECT_GRAPH")
    assert numbers == sum(int(np.prod(w.shape)) for w in model.backbone.weights)


def test_is_as_small_as_that_of_a_plain_model(model, encoder, tmp_path):
    plain = export_model(model.backbone, encoder, tmp_path / "plain")
    student = export_model(model, encoder, tmp_path / "student")
    sizes = [(path / "saved_model.pb").stat().st_size for path in (plain, student)]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]


def test_vocabularies_travel_as_assets(model, encoder, tmp_path):
    path = export_model(model, encoder, tmp_path)
    assert {p.name for p in (path / "assets").iterdir()} == {"user_id.txt", "item_id.txt"}


def test_says_what_its_output_means(model, encoder, tmp_path):
    path = export_model(model, encoder, tmp_path)
    metadata = json.loads((path / "assets.extra" / METADATA).read_text())
    assert metadata["outputs"] == model.output_meaning
    assert metadata["click_log"] == "shop"
    assert set(metadata["features"]) == {c.name for c in encoder.spec.model_columns}


class TestVersions:
    def test_count_up(self, model, encoder, tmp_path):
        assert [export_model(model, encoder, tmp_path).name for _ in range(2)] == ["1", "2"]
        assert export_model(model, encoder, tmp_path, 12).name == "12"
        assert export_model(model, encoder, tmp_path).name == "13"

    def test_are_never_replaced(self, model, encoder, tmp_path):
        export_model(model, encoder, tmp_path, 3)
        with pytest.raises(FileExistsError, match="Version 3 exists"):
            export_model(model, encoder, tmp_path, 3)

    def test_are_positive(self, model, encoder, tmp_path):
        with pytest.raises(ValueError, match="positive integer. Received: 0"):
            export_model(model, encoder, tmp_path, 0)

    def test_appear_whole_or_not_at_all(self, model, encoder, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            pathlib.Path(args[1]).mkdir(parents=True)
            raise OSError("disk full")

        monkeypatch.setattr(tf.saved_model, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            export_model(model, encoder, tmp_path / "served")
        assert list((tmp_path / "served").glob("**/*")) == []
