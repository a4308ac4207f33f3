"""What the candidates of a request share is computed once, and changes no score."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.backbones.base import dense_stack
from clsd_tf.candidates import CandidateColumns, CandidateFeatures, through
from clsd_tf.features import ModelFeature

FEATURES = [
    ModelFeature("age", "numeric"),
    ModelFeature("user", "categorical", cardinality=9, dim=3, table="user"),
    ModelFeature("item", "categorical", cardinality=9, dim=4, table="item"),
    ModelFeature("price", "numeric"),
    ModelFeature("city", "categorical", cardinality=9, dim=3, table="city"),
    ModelFeature("history", "categorical", cardinality=9, dim=4, length=5, table="item"),
]
OF_ITEMS = ("item", "price")


def drawn(names, rows: int, rng: np.random.Generator) -> dict[str, tf.Tensor]:
    values = {}
    for feature in FEATURES:
        shape = (rows, feature.length) if feature.is_list else (rows,)
        if feature.name in names:
            is_number = feature.kind == "numeric"
            value = rng.normal(size=shape) if is_number else rng.integers(0, 9, shape)
            values[feature.name] = tf.constant(value, tf.float32 if is_number else tf.int64)
    return values


def make_features(requests: int, count: int, own=OF_ITEMS, seed: int = 0) -> CandidateFeatures:
    rng = np.random.default_rng(seed)
    shared = [feature.name for feature in FEATURES if feature.name not in own]
    once, of_items = drawn(shared, requests, rng), drawn(own, requests * count, rng)
    return CandidateFeatures(once, of_items, tf.constant(requests), tf.constant(count))


def columns_of(features: CandidateFeatures) -> CandidateColumns:
    backbone = get_backbone("mlp", FEATURES)
    backbone({name: values[:0] for name, values in features.items()})
    inputs, embedded = backbone.embed(features)
    return backbone.columns(inputs, backbone.pool(inputs, embedded))


def test_values_are_repeated_for_the_candidates_of_their_own_request():
    features = CandidateFeatures(
        {"user": tf.constant([5, 6])},
        {"item": tf.constant([1, 2, 3, 4, 5, 6])},
        tf.constant(2),
        tf.constant(3),
    )
    np.testing.assert_array_equal(features["user"], [5, 5, 5, 6, 6, 6])
    np.testing.assert_array_equal(features["item"], [1, 2, 3, 4, 5, 6])


def test_what_is_shared_stays_so_through_pooling_and_numbers():
    columns = columns_of(make_features(2, 3))
    assert list(columns) == [feature.name for feature in FEATURES]
    assert set(columns.once) == {"age", "user", "city", "history"}
    assert columns.once["history"].shape == (2, 4) and columns["history"].shape == (6, 4)
    replaced = columns.replaced({"history": tf.zeros([6, 4])})
    assert set(replaced.once) == {"age", "user", "city"} and list(replaced) == list(columns)


@pytest.mark.parametrize("requests, count", [(1, 7), (3, 4), (2, 1), (1, 0), (0, 5)])
@pytest.mark.parametrize("own", [OF_ITEMS, ("user", "history"), (), [f.name for f in FEATURES]])
def test_a_product_is_that_of_the_columns_side_by_side(requests, count, own):
    columns = columns_of(make_features(requests, count, own))
    assert set(columns.once) == {f.name for f in FEATURES if f.name not in own}
    flat = np.concatenate([columns[feature.name] for feature in FEATURES], axis=1)
    np.testing.assert_array_equal(columns.flat(), flat)
    kernel = tf.random.stateless_normal([flat.shape[1], 6], seed=[1, 2])
    product = columns.times(kernel)
    assert product.shape == (requests * count, 6)
    np.testing.assert_allclose(product, flat @ kernel.numpy(), atol=1e-5)
    layers = dense_stack([5, 4], name="hidden")
    expected = layers(flat)
    layers.layers[0].bias.assign([0.1, -0.2, 0.3, 0.0, 0.4])
    assert not np.allclose(layers(flat), expected) or not flat.size
    np.testing.assert_allclose(through(layers, columns), layers(flat), atol=1e-5)


def test_no_layers_are_the_columns_themselves():
    columns = columns_of(make_features(2, 3))
    np.testing.assert_array_equal(through(dense_stack([], name="none"), columns), columns.flat())


def test_a_model_of_ones_own_that_reads_embeddings_by_a_keras_layer_has_them_all():
    columns = columns_of(make_features(2, 3))
    names = ["user", "item"]

    class Sum(keras.layers.Layer):
        def call(self, vectors):
            return tf.concat([vectors[name] for name in names], axis=1)

    expected = np.concatenate([columns[name] for name in names], axis=1)
    np.testing.assert_array_equal(Sum()(columns), expected)


def test_a_traced_request_reads_the_embeddings_of_its_user_once():
    """Of 40 candidates: an item each, and one user with a city and a history of five."""
    backbone = get_backbone("dcn_v2", FEATURES)
    features = make_features(1, 40)
    backbone(dict(features))
    read: list[int] = []
    lookup = backbone.embedding.lookup

    def counted(dim: int, rows: tf.Tensor) -> tf.Tensor:
        read.append(int(tf.size(rows)))
        return lookup(dim, rows)

    backbone.embedding.lookup = counted
    logits = backbone.candidate_logits(features)
    assert sum(read) == 40 + (2 + 5)
    backbone.embedding.lookup = lookup
    np.testing.assert_allclose(logits, backbone(dict(features)), atol=1e-5)
