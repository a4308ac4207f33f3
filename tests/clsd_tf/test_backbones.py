"""Every backbone keeps the contract; each computes what its paper says."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf import backbones
from clsd_tf.backbones import backbone_names, get_backbone, register_backbone
from clsd_tf.backbones.base import Backbone
from clsd_tf.candidates import CandidateFeatures
from clsd_tf.folding import fold_affine
from clsd_tf.linear import LinearTerm
from clsd_tf.losses import click_loss
from clsd_tf.metrics import auc
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import default_optimizer


def numpy_dense(layer: keras.layers.Dense, x: np.ndarray, relu: bool = True) -> np.ndarray:
    y = x @ layer.kernel.numpy() + layer.bias.numpy()
    return np.maximum(y, 0.0) if relu else y


def numpy_mean(vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Mean of the vectors whose id is not padding."""
    rows = [
        vectors[i][ids[i] > 0].mean(axis=0) if (ids[i] > 0).any() else np.zeros(vectors.shape[2])
        for i in range(len(ids))
    ]
    return np.array(rows)


def parts_of(backbone, clicks, rows: int = 50) -> tuple[dict, dict]:
    """The first impressions, and their embeddings, as NumPy arrays."""
    inputs = {name: values[:rows] for name, values in clicks.features.items()}
    inputs["history"][:2] = 0  # users without a history
    backbone(inputs)
    embedded = backbone.embedding(inputs) if backbone.embedding else {}
    return inputs, {name: v.numpy() for name, v in embedded.items()}


def side_by_side(inputs: dict, vectors: dict) -> np.ndarray:
    """What dense layers are given."""
    x = [vectors["user"], vectors["item"], numpy_mean(vectors["history"], inputs["history"])]
    return np.concatenate([*x, inputs["price"][:, None]], axis=1)


def randomise(backbone: Backbone) -> None:
    """Weights of any size: none that start at 0 or 1 are left there."""
    rng = np.random.default_rng(7)
    backbone.set_weights([rng.normal(0, 0.4, w.shape) for w in backbone.get_weights()])


def id_weights(linear: LinearTerm) -> tuple[np.ndarray, dict[str, int]]:
    """The weights of all ids, [rows, 1], and the row at which a vocabulary begins."""
    (table,) = linear.weights_of_ids.embedding_variables
    return table.numpy(), {"user": 0, "item": 60}


# Every backbone, with the options that keep it small here.
BACKBONES = {
    "autoint": {"units": [16], "head_dim": 4},
    "bst": {"units": [16], "max_history": 4},
    "dcn_v2": {"units": [16]},
    "dcn_v2_low_rank": {"units": [16]},
    "deepfm": {"units": [16]},
    "din": {"units": [16], "attention_units": [8]},
    "dlrm": {"units": [16], "bottom_units": [8]},
    "final_mlp": {"units": [16], "other_units": [8], "gate_units": [8]},
    "logistic": {},
    "mlp": {"units": [16, 8]},
    "mmoe": {"units": [16], "tower_units": [8], "num_experts": 2},
    "wide_deep": {"units": [16], "crosses": [("user", "item")], "num_cross_buckets": 500},
}
NEED_A_HISTORY = {"bst", "din"}


def test_every_backbone_is_checked():
    files = {path.stem for path in pathlib.Path(backbones.__file__).parent.glob("*.py")}
    assert set(BACKBONES) == files - {"__init__", "base"}


@dataclasses.dataclass
class Trained:
    """A backbone trained on clicks with a known cause."""

    name: str
    backbone: Backbone
    clicks: Any

    def again(self, **options) -> Backbone:
        """Another one with the same config, unless other `options` are given, and other weights."""
        return get_backbone(self.name, self.clicks.inputs, **{**BACKBONES[self.name], **options})

    def rows(self, count: int) -> dict[str, np.ndarray]:
        return {name: values[:count].copy() for name, values in self.clicks.features.items()}


@pytest.fixture(scope="module", params=BACKBONES)
def trained(request, make_clicks) -> Trained:
    """One training for all checks of a backbone."""
    keras.utils.set_random_seed(0)
    clicks = make_clicks()
    backbone = get_backbone(request.param, clicks.inputs, **BACKBONES[request.param])
    model = ClickConfidenceModel(backbone)
    model.compile(default_optimizer(backbone, learning_rate=0.01))
    model.fit(clicks.dataset(), epochs=4, verbose=0)
    return Trained(request.param, backbone, clicks)


class TestContract:
    def test_learns(self, trained):
        logits = trained.backbone(trained.clicks.features)
        assert auc(trained.clicks.labels, logits.numpy()) > 0.75

    def test_gives_one_logit_each_for_any_number_of_impressions(self, trained):
        logits = trained.backbone(trained.rows(5))
        assert logits.shape == (5,) and logits.dtype == tf.float32
        first = trained.backbone(trained.rows(1))
        np.testing.assert_allclose(first, logits[:1], rtol=1e-5, atol=1e-6)
        assert trained.backbone(trained.rows(0)).shape == (0,)

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_candidates_of_a_request_score_as_they_do_alone(self, trained, policy):
        rows = trained.rows(3)
        once = {name: rows[name] for name in ("user", "history")}
        own = {name: np.tile(rows[name], 4)[::-1] for name in ("item", "price")}
        features = CandidateFeatures(once, own, tf.constant(3), tf.constant(4))
        keras.mixed_precision.set_global_policy(policy)
        try:
            backbone = trained.again()
            backbone(features.repeated())
            backbone.set_weights(trained.backbone.get_weights())
            expected = backbone(features.repeated())
            logits = backbone.candidate_logits(features)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        assert logits.dtype == tf.float32
        near = 1e-5 if policy == "float32" else 0.05
        np.testing.assert_allclose(logits, expected, atol=near * np.ptp(expected))

    def test_reads_no_group_and_no_user_fingerprint(self, trained):
        rows = trained.rows(50)
        bare = {feature.name: rows[feature.name] for feature in trained.clicks.inputs}
        np.testing.assert_array_equal(trained.backbone(bare), trained.backbone(rows))

    def test_each_feature_has_an_effect(self, trained):
        rows = trained.rows(50)
        before = trained.backbone(rows).numpy()
        for feature in trained.clicks.inputs:
            permuted = np.roll(rows[feature.name], 1, axis=0)
            assert np.any(trained.backbone({**rows, feature.name: permuted}) != before)

    def test_where_padding_stands_and_what_its_vector_is_changes_nothing(self, trained):
        rows = trained.rows(20)
        rows["history"][:] = [7, 3, 9, 0, 0]
        rows["history"][0] = 0  # none at all
        before = trained.backbone(rows).numpy()
        assert np.isfinite(before).all()
        moved = {**rows, "history": np.roll(rows["history"], 2, axis=1)}
        np.testing.assert_allclose(trained.backbone(moved), before, rtol=1e-5, atol=1e-6)
        kept = trained.backbone.get_weights()
        try:
            for table in (t for layer in trained.backbone.submodules for t in _tables(layer)):
                assert table.shape[0] >= 100  # rows of users, then of items
                table.scatter_nd_update([[60]], np.full((1, table.shape[1]), 1e3))
            np.testing.assert_allclose(trained.backbone(rows), before, rtol=1e-5, atol=1e-6)
        finally:
            trained.backbone.set_weights(kept)

    def test_unknown_values_are_ids_of_0(self, trained):
        nothing = {name: np.zeros_like(values) for name, values in trained.rows(3).items()}
        assert np.isfinite(trained.backbone(nothing)).all()

    def test_a_missing_feature_is_named(self, trained):
        rows = trained.rows(3)
        del rows["price"]
        with pytest.raises(ValueError, match=r"misses features.*Expected also: price"):
            trained.backbone(rows)

    def test_needs_no_numbers_and_no_lists_unless_it_says_so(self, trained):
        singles = trained.clicks.inputs[:2]
        if trained.name in NEED_A_HISTORY:
            with pytest.raises(ValueError, match=r"needs the item and a history.*user, item"):
                get_backbone(trained.name, singles)
        else:
            backbone = get_backbone(trained.name, singles, **BACKBONES[trained.name])
            assert backbone(trained.rows(3)).shape == (3,)

    def test_vectors_may_have_different_widths(self, trained):
        user, *others = trained.clicks.inputs
        features = [dataclasses.replace(user, dim=6), *others]
        backbone = get_backbone(trained.name, features, **BACKBONES[trained.name])
        assert backbone(trained.rows(3)).shape == (3,)

    def test_ends_in_a_dense_layer_called_head(self, trained):
        rows = trained.rows(20)
        before = trained.backbone(rows)
        kept = trained.backbone.get_weights()
        try:
            fold_affine(trained.backbone, 0.5, 3.0)
            expected = 0.5 * before + 3.0
            np.testing.assert_allclose(trained.backbone(rows), expected, rtol=1e-5, atol=1e-5)
        finally:
            trained.backbone.set_weights(kept)

    def test_another_instance_with_the_same_config_and_weights_is_the_same(self, trained):
        rows = trained.rows(20)
        config = json.loads(json.dumps(trained.backbone.get_config()))
        other = type(trained.backbone).from_config(config)
        other(rows)
        other.set_weights(trained.backbone.get_weights())
        np.testing.assert_array_equal(other(rows), trained.backbone(rows))

    def test_names_its_tables_for_the_sparse_optimizer(self, trained):
        tables = {v.ref() for m in trained.backbone.submodules for v in _tables(m)}
        large = {v.ref() for v in trained.backbone.trainable_variables if v.shape[0] >= 100}
        assert large and tables == large

    def test_finite_gradients_reach_every_variable(self, trained):
        # Ids that occur, large vectors, and impressions that are all clicks.
        backbone = trained.again()
        rows = trained.rows(200)
        backbone(rows)
        backbone.set_weights([30.0 * weight for weight in backbone.get_weights()])
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(click_loss(backbone(rows), tf.ones(200)))
        gradients = tape.gradient(loss, backbone.trainable_variables)
        for variable, gradient in zip(backbone.trainable_variables, gradients, strict=True):
            assert gradient is not None, variable.name
            assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.name

    def test_mixed_precision_comes_near(self, trained):
        rows = trained.rows(200)
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        try:
            mixed = trained.again()
            mixed(rows)
            mixed.set_weights(trained.backbone.get_weights())
            with tf.GradientTape() as tape:
                logits = mixed(rows)
                loss = tf.reduce_mean(click_loss(logits, trained.clicks.labels[:200]))
            gradients = tape.gradient(loss, mixed.trainable_variables)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        assert logits.dtype == tf.float32
        assert np.corrcoef(logits, trained.backbone(rows))[0, 1] > 0.999
        assert all(gradient.dtype == tf.float32 for gradient in gradients)

    def test_a_saved_graph_gives_the_same_without_any_of_this_code(self, trained, tmp_path):
        rows = {f.name: trained.rows(20)[f.name] for f in trained.clicks.inputs}
        module = tf.Module()
        module.weights = trained.backbone.weights
        specs = {n: tf.TensorSpec([None, *v.shape[1:]], v.dtype, n) for n, v in rows.items()}
        module.predict = tf.function(trained.backbone, input_signature=[specs])
        tf.saved_model.save(module, str(tmp_path))
        served = tf.saved_model.load(str(tmp_path))
        logits = served.predict({name: tf.constant(values) for name, values in rows.items()})
        np.testing.assert_allclose(logits, trained.backbone(rows), rtol=1e-5, atol=1e-6)


def _tables(module: tf.Module) -> list[tf.Variable]:
    return getattr(module, "embedding_variables", [])


def test_mlp_is_dense_layers_over_all_features_side_by_side(clicks):
    backbone = get_backbone("mlp", clicks.inputs, units=[8, 3])
    inputs, vectors = parts_of(backbone, clicks)
    x = [vectors["user"], vectors["item"], numpy_mean(vectors["history"], inputs["history"])]
    x = np.concatenate([*x, inputs["price"][:, None]], axis=1)
    for layer in backbone.hidden.layers:
        x = numpy_dense(layer, x)
    expected = numpy_dense(backbone.head, x, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-6)


def test_dcn_v2_crosses_in_parallel_with_dense_layers(clicks):
    backbone = get_backbone("dcn_v2", clicks.inputs, units=[8], num_cross_layers=2)
    inputs, vectors = parts_of(backbone, clicks)
    x = [vectors["user"], vectors["item"], numpy_mean(vectors["history"], inputs["history"])]
    x0 = np.concatenate([*x, inputs["price"][:, None]], axis=1)
    crossed = x0
    for layer in backbone.cross:  # x_{l+1} = x_0 * (W x_l + b) + x_l
        kernel, bias = (weight.numpy() for weight in layer.trainable_weights)
        crossed = x0 * (crossed @ kernel + bias) + crossed
    deep = numpy_dense(backbone.deep.layers[0], x0)
    both = np.concatenate([crossed, deep], axis=1)
    expected = numpy_dense(backbone.head, both, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("known", [1.0, 0.3, 0.0])
def test_din_sums_the_history_by_its_relevance_to_the_item(clicks, known):
    backbone = get_backbone("din", clicks.inputs, units=[8], attention_units=[5])
    inputs, vectors = parts_of(backbone, clicks)
    inputs["history"] = inputs["history"] * (np.random.default_rng(0).random((50, 5)) < known)
    first = backbone.attention["history"]
    (last,) = first.others
    interest = np.zeros((50, 4))
    for i in range(50):
        for t in range(5):
            if inputs["history"][i, t]:
                q, k = vectors["item"][i], vectors["history"][i, t]
                pair = np.concatenate([q, k, q - k, q * k])
                hidden = numpy_dense(first, pair)
                interest[i] += numpy_dense(last, hidden, relu=False) * k
    x = np.concatenate(
        [vectors["user"], vectors["item"], interest, inputs["price"][:, None]], axis=1
    )
    hidden = numpy_dense(backbone.hidden.layers[0], x)
    expected = numpy_dense(backbone.head, hidden, relu=False)[:, 0]
    for training in (False, True):
        logits = backbone(inputs, training=training)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_logistic_is_a_sum_of_weights(clicks):
    backbone = get_backbone("logistic", clicks.inputs)
    inputs, _ = parts_of(backbone, clicks)
    randomise(backbone)
    table, offsets = id_weights(backbone.linear)
    history = numpy_mean(table[inputs["history"] + offsets["item"]], inputs["history"])
    z = table[inputs["user"]] + table[inputs["item"] + offsets["item"]] + history
    z = z + inputs["price"][:, None] @ backbone.linear.kernel.numpy()
    expected = numpy_dense(backbone.head, z, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-6)


def test_wide_deep_crosses_ids_exactly_where_buckets_suffice(clicks):
    options = {"units": [8], "crosses": [("user", "item")], "num_cross_buckets": 2400}
    backbone = get_backbone("wide_deep", clicks.inputs, **options)
    inputs, vectors = parts_of(backbone, clicks)
    randomise(backbone)
    vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
    table, offsets = id_weights(backbone.wide)
    z = table[inputs["user"]] + table[inputs["item"] + offsets["item"]]
    z = z + numpy_mean(table[inputs["history"] + offsets["item"]], inputs["history"])
    z = z + table[100 + inputs["user"] * 40 + inputs["item"]]
    z = z + inputs["price"][:, None] @ backbone.wide.kernel.numpy()
    deep = numpy_dense(backbone.deep.layers[0], side_by_side(inputs, vectors))
    expected = numpy_dense(backbone.head, np.concatenate([z, deep], axis=1), relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-5)


def test_wide_deep_says_what_can_be_crossed(clicks):
    with pytest.raises(ValueError, match=r"\('user', 'history'\).*two of: user, item"):
        get_backbone("wide_deep", clicks.inputs, crosses=[("user", "history")])


def test_deepfm_adds_the_dot_products_of_all_pairs(clicks):
    backbone = get_backbone("deepfm", clicks.inputs, units=[8])
    inputs, _ = parts_of(backbone, clicks)
    randomise(backbone)
    vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
    price = inputs["price"][:, None] * backbone.fields.get_weights()[0]
    history = numpy_mean(vectors["history"], inputs["history"])
    fields = [vectors["user"], vectors["item"], history, price]
    pairs = sum((v * w).sum(axis=1) for v, w in itertools.combinations(fields, 2))[:, None]
    deep = numpy_dense(backbone.deep.layers[0], side_by_side(inputs, vectors))
    parts = [backbone.linear(inputs).numpy(), pairs, deep]
    expected = numpy_dense(backbone.head, np.concatenate(parts, axis=1), relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-4)


def test_a_sum_counts_as_it_is_before_training(clicks):
    backbone = get_backbone("deepfm", clicks.inputs, units=[8])
    parts_of(backbone, clicks)
    kernel = backbone.head.kernel.numpy()[:, 0]
    np.testing.assert_array_equal(kernel[:2], [1.0, 1.0])
    assert len(set(kernel[2:])) == 8


def test_dlrm_multiplies_every_two_vectors(clicks):
    backbone = get_backbone("dlrm", clicks.inputs, units=[8], bottom_units=[3])
    inputs, _ = parts_of(backbone, clicks)
    randomise(backbone)
    vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
    dense = inputs["price"][:, None]
    for layer in backbone.bottom.layers:
        dense = numpy_dense(layer, dense)
    history = numpy_mean(vectors["history"], inputs["history"])
    fields = np.stack([dense, vectors["user"], vectors["item"], history], axis=1)
    products = np.tril(fields @ fields.transpose(0, 2, 1), -1).reshape(50, 16)
    hidden = numpy_dense(backbone.top.layers[0], np.concatenate([dense, products], axis=1))
    expected = numpy_dense(backbone.head, hidden, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-5)


def test_autoint_attends_from_each_feature_to_all(clicks):
    options = {"units": [], "num_layers": 1, "num_heads": 2, "head_dim": 3}
    backbone = get_backbone("autoint", clicks.inputs, **options)
    inputs, _ = parts_of(backbone, clicks)
    randomise(backbone)
    vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
    price = inputs["price"][:, None] * backbone.fields.get_weights()[0]
    history = numpy_mean(vectors["history"], inputs["history"])
    fields = np.stack([vectors["user"], vectors["item"], history, price], axis=1)
    layer = backbone.attention[0]
    query, key, value, residual = (
        getattr(layer, name).kernel.numpy() for name in ("query", "key", "value", "residual")
    )
    output = np.zeros((50, 4, 6))
    for i, m, h in itertools.product(range(50), range(4), range(2)):
        head = slice(3 * h, 3 * h + 3)
        scores = (fields[i] @ key[:, head]) @ (fields[i, m] @ query[:, head])
        attention = np.exp(scores) / np.exp(scores).sum()
        output[i, m, head] = attention @ (fields[i] @ value[:, head])
    output = np.maximum(output + fields @ residual, 0.0).reshape(50, 24)
    expected = numpy_dense(backbone.head, output, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-5)


def test_final_mlp_gates_two_streams_and_joins_them(clicks):
    options = {"units": [6], "other_units": [4], "gate_units": [5], "num_heads": 2}
    backbone = get_backbone("final_mlp", clicks.inputs, **options)
    inputs, _ = parts_of(backbone, clicks)
    randomise(backbone)
    vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
    flat = side_by_side(inputs, vectors)
    streams = []
    for context, gate, stream in zip(
        ("user", "item"), backbone.gates, backbone.streams, strict=True
    ):
        hidden = numpy_dense(gate.layers[0], vectors[context])
        scale = 2.0 / (1.0 + np.exp(-numpy_dense(gate.layers[1], hidden, relu=False)))
        streams.append(numpy_dense(stream.layers[0], scale * flat))
    kernel = backbone.fusion.kernel.numpy()
    halves = zip(*(np.split(stream, 2, axis=1) for stream in streams), strict=True)
    joined = sum(
        np.einsum("bi,ij,bj->b", one, kernel[h], other) for h, (one, other) in enumerate(halves)
    )
    parts = np.concatenate([joined[:, None], *streams], axis=1)
    expected = numpy_dense(backbone.head, parts, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-4)


def test_final_mlp_without_user_and_item_learns_its_contexts(clicks):
    plain = [dataclasses.replace(f, role="feature") for f in clicks.inputs]
    backbone = get_backbone("final_mlp", plain, units=[6], other_units=[4], gate_units=[5])
    assert backbone(clicks.features).shape == (2000,)
    assert sum("context" in v.name for v in backbone.trainable_variables) == 2


class TestFurtherLabels:
    OPTIONS = {"units": [5], "tower_units": [3], "num_experts": 2, "tasks": ["like"]}  # noqa: RUF012

    def test_gates_mix_experts_for_each_task(self, clicks):
        backbone = get_backbone("mmoe", clicks.inputs, **self.OPTIONS)
        inputs, _ = parts_of(backbone, clicks)
        randomise(backbone)
        vectors = {name: v.numpy() for name, v in backbone.embedding(inputs).items()}
        x = side_by_side(inputs, vectors)
        experts = [numpy_dense(expert.layers[0], x) for expert in backbone.experts]
        logits = []
        for gate, tower, head in zip(
            backbone.gates, backbone.towers, [backbone.head, *backbone.task_heads], strict=True
        ):
            opened = np.exp(numpy_dense(gate, x, relu=False))
            opened /= opened.sum(axis=1, keepdims=True)
            mixed = sum(opened[:, k : k + 1] * experts[k] for k in range(2))
            logits.append(numpy_dense(head, numpy_dense(tower.layers[0], mixed), relu=False)[:, 0])
        np.testing.assert_allclose(backbone(inputs), logits[0], rtol=1e-4, atol=1e-5)
        liked = backbone.task_logits(inputs)["like"]
        np.testing.assert_allclose(liked, logits[1], rtol=1e-4, atol=1e-5)

    def test_their_cross_entropy_is_added_in_training_alone(self, clicks):
        backbone = get_backbone("mmoe", clicks.inputs, **self.OPTIONS, task_weight=0.5)
        rows = {name: values[:50] for name, values in clicks.features.items()}
        like = np.arange(50) % 2
        backbone(rows)
        assert backbone.losses == []
        backbone({**rows, "like": like}, training=True)
        z = backbone.task_logits(rows)["like"].numpy()
        expected = 0.5 * np.mean(np.log1p(np.exp(z)) - like * z)
        assert float(backbone.losses[0]) == pytest.approx(expected, rel=1e-5)

    def test_batches_without_the_label_do_not_train(self, clicks):
        backbone = get_backbone("mmoe", clicks.inputs, **self.OPTIONS)
        with pytest.raises(ValueError, match="labels that the batches lack.*also: like"):
            backbone(clicks.features, training=True)

    def test_an_input_is_no_label(self, clicks):
        with pytest.raises(ValueError, match="A label cannot be an input too. Received: price"):
            get_backbone("mmoe", clicks.inputs, tasks=["price"])


def test_bst_reads_the_last_clicks_of_a_history_as_far_as_it_goes(clicks):
    backbone = get_backbone("bst", clicks.inputs, units=[8], num_heads=2, max_history=3)
    inputs = {name: values[:12] for name, values in clicks.features.items()}
    inputs["history"][:2] = 0
    backbone(inputs)
    randomise(backbone)
    table = backbone.embedding.embedding_variables[0].numpy()
    vectors = {"user": table[inputs["user"]], "item": table[60 + inputs["item"]]}
    block = backbone.blocks["history"]
    positions, query, key, value, merge, *_ = (w.numpy() for w in block.weights)
    assert block.weights[1].name.endswith("query/kernel:0")

    def normalised(layer, x):
        moved = x - x.mean(axis=-1, keepdims=True)
        scaled = moved / np.sqrt((moved**2).mean(axis=-1, keepdims=True) + 1e-6)
        return scaled * layer.gamma.numpy() + layer.beta.numpy()

    read = []
    for i in range(12):
        clicked = np.flatnonzero(inputs["history"][i])[::-1][:3]
        s = np.concatenate([vectors["item"][i][None], table[60 + inputs["history"][i][clicked]]])
        s = s + positions[: len(s)]
        attended = np.zeros_like(s)
        for h in range(2):
            scores = (s @ query[:, h]) @ (s @ key[:, h]).T / np.sqrt(2.0)
            attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            attended += attention @ (s @ value[:, h]) @ merge[h]
        s = normalised(block.attention_norm, s + attended)
        hidden = numpy_dense(block.feed_forward.layers[0], s, relu=False)
        hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
        hidden = numpy_dense(block.feed_forward.layers[1], hidden, relu=False)
        f = normalised(block.output_norm, s + hidden)
        read.append(np.concatenate([f[0], f.mean(axis=0)]))
    x = [vectors["user"], vectors["item"], np.array(read), inputs["price"][:, None]]
    hidden = numpy_dense(backbone.hidden.layers[0], np.concatenate(x, axis=1))
    expected = numpy_dense(backbone.head, hidden, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-3, atol=1e-4)


class TestRegistry:
    def test_a_new_one_is_found_by_its_name(self, clicks):
        @register_backbone("logistic_for_test")
        def logistic(features):
            assert features == clicks.inputs
            return keras.layers.Dense(1)

        assert "logistic_for_test" in backbone_names()
        assert get_backbone("logistic_for_test", clicks.inputs).units == 1

    def test_one_of_another_package_is_named_by_module_and_class(self, clicks):
        backbone = get_backbone("clsd_tf.backbones.mlp:MLP", clicks.inputs, units=[3])
        assert backbone.units == (3,)

    def test_unknown_names_are_answered_with_the_known(self, clicks):
        with pytest.raises(ValueError, match=r"'dcn'.*dcn_v2, dcn_v2_low_rank"):
            get_backbone("dcn", clicks.inputs)
        with pytest.raises(ValueError, match="Cannot import .* Received: 'nowhere:Model'"):
            get_backbone("nowhere:Model", clicks.inputs)

    def test_a_name_is_taken_once(self):
        with pytest.raises(ValueError, match="There is a backbone 'mlp' already"):
            register_backbone("mlp")(keras.layers.Dense)

    def test_names_cost_no_import_of_tensorflow(self):
        code = (
            "import sys; from clsd_tf.backbones import backbone_names; "
            "assert {'mlp', 'dcn_v2', 'din'} <= set(backbone_names()); "
            "assert 'tensorflow' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
