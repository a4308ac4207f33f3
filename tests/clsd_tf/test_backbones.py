"""Every backbone keeps the contract; each computes what its paper says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import backbone_names, get_backbone, register_backbone
from clsd_tf.metrics import auc
from clsd_tf.model import ClickConfidenceModel


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
    return inputs, {name: v.numpy() for name, v in backbone.embedding(inputs).items()}


@pytest.mark.parametrize("name", backbone_names())
class TestContract:
    def test_features_to_one_logit_each(self, name, clicks):
        backbone = get_backbone(name, clicks.inputs)
        logits = backbone(clicks.features)
        assert logits.shape == (2000,) and logits.dtype == tf.float32

    def test_reads_no_group_and_no_user_fingerprint(self, name, clicks):
        backbone = get_backbone(name, clicks.inputs)
        bare = {feature.name: clicks.features[feature.name] for feature in clicks.inputs}
        np.testing.assert_array_equal(backbone(bare), backbone(clicks.features))

    def test_each_feature_has_an_effect(self, name, clicks):
        backbone = get_backbone(name, clicks.inputs)
        before = backbone(clicks.features).numpy()
        for feature in clicks.inputs:
            permuted = np.roll(clicks.features[feature.name], 1, axis=0)
            assert np.any(backbone({**clicks.features, feature.name: permuted}) != before)

    def test_learns(self, name, clicks):
        model = ClickConfidenceModel(get_backbone(name, clicks.inputs))
        model.compile()
        model.fit(clicks.dataset(), epochs=3, verbose=0)
        assert auc(clicks.labels, model.predict(clicks.dataset(), verbose=0)) > 0.75

    def test_ends_in_a_dense_layer_called_head(self, name, clicks):
        backbone = get_backbone(name, clicks.inputs)
        backbone(clicks.features)
        assert backbone.head.kernel.shape[1] == 1

    def test_another_instance_with_the_same_config_and_weights_is_the_same(self, name, clicks):
        one = get_backbone(name, clicks.inputs)
        expected = one(clicks.features)
        other = type(one).from_config(one.get_config())
        other(clicks.features)
        other.set_weights(one.get_weights())
        np.testing.assert_array_equal(other(clicks.features), expected)

    def test_names_its_tables_for_the_sparse_optimizer(self, name, clicks):
        backbone = get_backbone(name, clicks.inputs)
        backbone(clicks.features)
        assert [v.shape for v in backbone.embedding.embedding_variables] == [(100, 4)]


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


def test_din_sums_the_history_by_its_relevance_to_the_item(clicks):
    backbone = get_backbone("din", clicks.inputs, units=[8], attention_units=[5])
    inputs, vectors = parts_of(backbone, clicks)
    scorer = backbone.attention["history"].layers
    interest = np.zeros((50, 4))
    for i in range(50):
        for t in range(5):
            if inputs["history"][i, t]:
                q, k = vectors["item"][i], vectors["history"][i, t]
                pair = np.concatenate([q, k, q - k, q * k])
                hidden = numpy_dense(scorer[0], pair)
                interest[i] += numpy_dense(scorer[1], hidden, relu=False) * k
    x = np.concatenate(
        [vectors["user"], vectors["item"], interest, inputs["price"][:, None]], axis=1
    )
    hidden = numpy_dense(backbone.hidden.layers[0], x)
    expected = numpy_dense(backbone.head, hidden, relu=False)[:, 0]
    np.testing.assert_allclose(backbone(inputs), expected, rtol=1e-4, atol=1e-5)


def test_din_without_a_history_says_what_it_needs(clicks):
    with pytest.raises(ValueError, match=r"needs the item and a history.*user, item, price"):
        get_backbone("din", [f for f in clicks.inputs if f.name != "history"])


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
        with pytest.raises(ValueError, match=r"'dcn'.*dcn_v2, din"):
            get_backbone("dcn", clicks.inputs)
        with pytest.raises(ValueError, match="Cannot import the backbone 'nowhere:Model'"):
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
