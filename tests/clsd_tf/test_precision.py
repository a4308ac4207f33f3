"""Mixed precision: products in bfloat16, weights and logits in float32."""

from __future__ import annotations

import concurrent.futures
import json
import re
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import backbone_names, get_backbone
from clsd_tf.backbones.mlp import MLP
from clsd_tf.candidates import CandidateFeatures
from clsd_tf.ema import EMATeacher
from clsd_tf.export import export_model
from clsd_tf.metrics import auc
from clsd_tf.model import ClickConfidenceModel
from tests.shop import REQUESTS, features_of, serialized

MIXED = "mixed_bfloat16"
PRODUCTS = {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "SparseMatMul"}
# What adds up to the logit: the last layer, and linear terms. Sums of rows are by sparse matrices.
IN_FLOAT32 = re.compile(r"/(head|linear|wide)/|SparseTensorDenseMatMul")


@pytest.fixture(scope="module", params=sorted(backbone_names()))
def pair(request, make_clicks):
    """A backbone of each precision, with the same weights, and what they are asked of."""
    clicks = make_clicks()
    rows = {f.name: tf.constant(clicks.features[f.name][:60]) for f in clicks.inputs}
    exact, mixed = (get_backbone(request.param, clicks.inputs, dtype=d) for d in ("float32", MIXED))
    exact(rows), mixed(rows)
    random = np.random.default_rng(7)
    # None of them near 0, which would hide what it is multiplied by.
    weights = [
        random.choice([-1, 1], weight.shape) * random.uniform(0.1, 0.5, weight.shape)
        for weight in exact.get_weights()
    ]
    exact.set_weights(weights), mixed.set_weights(weights)
    return exact, mixed, rows


def test_weights_and_logits_are_float32(pair):
    _, mixed, rows = pair
    assert mixed.compute_dtype == "bfloat16"
    assert {weight.dtype for weight in mixed.weights} == {tf.float32}
    assert mixed(rows).dtype == tf.float32


def test_logits_are_nearly_those_of_float32(pair):
    exact, mixed, rows = pair
    expected, received = exact(rows).numpy(), mixed(rows).numpy()
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(received, expected, atol=0.05 * np.ptp(expected))
    assert np.corrcoef(received, expected)[0, 1] > 0.999


def test_all_products_of_a_step_are_in_bfloat16(pair):
    _, mixed, rows = pair

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mixed(rows, training=True))
        return tape.gradient(loss, mixed.trainable_variables)

    graph = step.get_concrete_function(rows).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    products = [node for node in nodes if node.op in PRODUCTS]
    # TensorFlow multiplies two dtypes by an operation that only CPUs have, and slowly.
    assert products and not [node.name for node in products if node.op == "SparseMatMul"]
    exact = [node.name for node in products if node.attr["T"].type == tf.float32.as_datatype_enum]
    assert not [name for name in exact if not IN_FLOAT32.search(name)]


def test_candidates_of_a_request_score_as_they_do_alone(pair):
    _, mixed, rows = pair
    once = {name: rows[name][:3] for name in ("user", "history")}
    own = {name: rows[name][:12] for name in ("item", "price")}
    features = CandidateFeatures(once, own, tf.constant(3), tf.constant(4))
    expected = mixed(features.repeated()).numpy()
    atol = 0.05 * np.ptp(expected)
    np.testing.assert_allclose(mixed.candidate_logits(features), expected, atol=atol)


def test_its_config_keeps_it(pair):
    for backbone in pair[:2]:
        config = json.loads(json.dumps(backbone.get_config()))
        again = type(backbone).from_config(config)
        again(pair[2])
        assert again.compute_dtype == backbone.compute_dtype
        again.set_weights(backbone.get_weights())
        np.testing.assert_array_equal(again(pair[2]), backbone(pair[2]))
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("teacher", ["none", "frozen", "ema"])
def test_learns(clicks, teacher):
    def backbone(dtype):
        return get_backbone("dcn_v2", clicks.inputs, units=[16], dtype=dtype)

    if teacher == "none":
        model = ClickConfidenceModel(backbone(MIXED))
    elif teacher == "frozen":  # of another precision, as a run before may have been
        model = ClickConfidenceModel(backbone(MIXED), backbone("float32"), "global", num_groups=3)
    else:
        taught = EMATeacher(backbone(MIXED))
        model = ClickConfidenceModel(backbone(MIXED), taught, "global", num_groups=3)
    model.compile()
    model.fit(clicks.dataset(), epochs=6, verbose=0)
    logits = model.backbone(clicks.features).numpy()
    assert auc(clicks.labels, logits) > 0.7


def test_an_export_scores_as_the_model_does(shop_encoder, tmp_path):
    model = ClickConfidenceModel(get_backbone("dcn_v2", shop_encoder.model_features, dtype=MIXED))
    features = features_of(shop_encoder, REQUESTS)
    expected = model(features).numpy()
    served = tf.saved_model.load(str(export_model(model, shop_encoder, tmp_path)))
    scores = served.signatures["serving_default"](inputs=serialized(REQUESTS))["outputs"]
    np.testing.assert_allclose(scores, expected, rtol=0.01)


def test_threads_get_what_each_asks_for(clicks):
    def built(place: int) -> list[str]:
        dtype = ["float32", MIXED][place % 2]
        made = [get_backbone("mlp", clicks.inputs, units=[4], dtype=dtype) for _ in range(15)]
        return [backbone.dtype_policy.name for backbone in made]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(built, range(4)))
    assert found == [["float32"] * 15, [MIXED] * 15] * 2
    assert keras.mixed_precision.global_policy().name == "float32"


def test_a_config_of_another_policy_has_the_global_one(clicks):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        config = get_backbone("mlp", clicks.inputs).get_config()
        assert MLP.from_config(config).compute_dtype == "float16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert MLP.from_config(config).compute_dtype == "float32"


def test_a_module_of_ones_own_is_imported_with_the_global_policy(clicks, tmp_path, monkeypatch):
    source = """
        import tf_keras as keras
        from clsd_tf.backbones.mlp import MLP
        policy = keras.mixed_precision.global_policy().name
    """
    (tmp_path / "own_backbone_of_precision.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    made = get_backbone("own_backbone_of_precision:MLP", clicks.inputs, dtype=MIXED)
    assert made.compute_dtype == "bfloat16"
    assert sys.modules["own_backbone_of_precision"].policy == "float32"


class TestMistakes:
    @pytest.mark.parametrize("dtype", ["bfloat16", "mixed_float16"])
    def test_another_precision(self, clicks, dtype):
        with pytest.raises(
            ValueError, match=f"one of: float32, mixed_bfloat16. Received: '{dtype}'"
        ):
            get_backbone("mlp", clicks.inputs, dtype=dtype)

    def test_a_precision_of_the_backbone_without_its_layers(self, clicks):
        with pytest.raises(
            ValueError, match="its layers will have 'float32'. Expected: `clsd_tf.get"
        ):
            MLP(clicks.inputs, dtype=MIXED)

    def test_a_mistake_leaves_the_policy_as_it_was(self, clicks):
        with pytest.raises(ValueError, match="num_cross_layers"):
            get_backbone("dcn_v2", clicks.inputs, dtype=MIXED, num_cross_layers=0)
        assert keras.mixed_precision.global_policy().name == "float32"
