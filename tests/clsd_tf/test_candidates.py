"""What the candidates of a request share is computed once, and changes no score."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import dcn_v2, get_backbone
from clsd_tf.backbones.base import Backbone, dense_stack
from clsd_tf.backbones.mlp import MLP
from clsd_tf.candidates import CandidateColumns, CandidateFeatures, through
from clsd_tf.columns import mean_pool
from clsd_tf.embeddings import FusedEmbedding
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
    rows = features.repeated()
    backbone({name: values[:0] for name, values in rows.items()})
    embedded = features.embedded(backbone.embedding)
    return backbone.columns(rows, backbone.pool(rows, embedded))


def test_values_are_repeated_for_the_candidates_of_their_own_request():
    once, own = {"user": tf.constant([5, 6])}, {"item": tf.constant([1, 2, 3, 4, 5, 6])}
    rows = CandidateFeatures(once, own, tf.constant(2), tf.constant(3)).repeated()
    np.testing.assert_array_equal(rows["user"], [5, 5, 5, 6, 6, 6])
    np.testing.assert_array_equal(rows["item"], [1, 2, 3, 4, 5, 6])


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
    layers(flat)
    layers.layers[0].bias.assign([0.1, -0.2, 0.3, 0.0, 0.4])
    np.testing.assert_allclose(through(layers, columns), layers(flat), atol=1e-5)


class Doubled(keras.layers.Dense):
    """A Dense that computes something else."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


@pytest.mark.parametrize(
    "first", [keras.layers.BatchNormalization(), Doubled(5), keras.layers.Dropout(0.5)]
)
def test_a_first_layer_that_is_no_dense_is_applied_as_it_is(first):
    columns = columns_of(make_features(2, 3))
    layers = keras.Sequential([first, keras.layers.Dense(4)])
    expected = layers(columns.flat())
    np.testing.assert_array_equal(through(layers, columns), expected)


def test_a_cross_that_computes_something_else_is_applied_as_it_is():
    called = set()

    class Doubling(dcn_v2.tfrs.layers.dcn.Cross):
        def call(self, x0, x=None):
            called.add(self.name)
            return 2.0 * super().call(x0, x)

    backbone, features = get_backbone("dcn_v2", FEATURES), make_features(2, 3)
    backbone.cross = [Doubling(name="first"), Doubling(name="second")]
    expected = backbone(features.repeated())
    assert called == {"first", "second"}
    np.testing.assert_allclose(backbone.candidate_logits(features), expected, atol=1e-5)


def test_no_layers_are_the_columns_themselves():
    columns = columns_of(make_features(2, 3))
    np.testing.assert_array_equal(through(dense_stack([], name="none"), columns), columns.flat())


def test_a_copy_that_keras_makes_holds_all_columns_of_all_candidates():
    features = make_features(2, 3)
    rows = features.repeated()
    embedded = features.embedded(FusedEmbedding(FEATURES))

    class Copied(keras.layers.Layer):
        def call(self, vectors):
            columns = vectors.replaced({"user": 2.0 * vectors["user"]}).pooled(rows)
            return columns.with_numbers(rows, FEATURES, tf.float32).flat()

    copied = Copied()(embedded)
    vectors = {name: v.numpy() for name, v in embedded.items()}
    vectors["user"] = 2.0 * vectors["user"]
    vectors["history"] = mean_pool(vectors["history"], rows["history"]).numpy()
    vectors |= {name: rows[name][:, tf.newaxis] for name in ("age", "price")}
    expected = np.concatenate([vectors[feature.name] for feature in FEATURES], axis=1)
    np.testing.assert_allclose(copied, expected, atol=1e-6)


class Changing(Backbone):
    """One that does what sharing does not allow, and does not say that it shares."""

    def __init__(self, features, **kwargs):
        super().__init__(features, **kwargs)
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(2.0)
        )

    def represent(self, inputs, embedded):
        embedded["user"] = embedded["user"] * self.scale
        inputs = {**inputs, "age": tf.math.square(inputs["age"])}
        columns = self.columns(inputs, self.pool(inputs, embedded))
        return tf.concat([*self.pool(inputs, embedded).values(), columns.flat()], axis=1)


class Nested(Backbone):
    """One with a call of its own, and a backbone that shares inside."""

    def __init__(self, features, **kwargs):
        super().__init__(features, embed=False, **kwargs)
        self.inner = get_backbone("mlp", features)

    def call(self, inputs):
        return self.inner(inputs) + self.head(inputs["age"][:, tf.newaxis])[:, 0]

    def represent(self, inputs, embedded):
        raise NotImplementedError


class Embedding(MLP):
    """A subclass of one that shares, which changes what is embedded."""

    def embed(self, inputs):
        return super().embed({**inputs, "user": (inputs["user"] + 1) % 9})


class OfMlp(MLP):
    """A subclass of one that shares, with a `represent` that does not."""

    def represent(self, inputs, embedded):
        vectors = self.pool(inputs, embedded)
        return self.hidden(self.flatten({**inputs, "age": -inputs["age"]}, vectors))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", [Changing, Nested, Embedding, OfMlp])
def test_a_backbone_that_does_not_say_so_is_given_rows(kind, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        backbone, features = kind(FEATURES), make_features(2, 3)
        expected = backbone(features.repeated())
        logits = backbone.candidate_logits(features)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(logits, expected)


SHARING = ["autoint", "dcn_v2", "dcn_v2_low_rank", "deepfm", "din", "dlrm", "final_mlp"]


@pytest.mark.parametrize("name", [*SHARING, "mlp", "mmoe", "wide_deep"])
def test_a_request_reads_the_embeddings_of_its_user_once(name):
    """Of 40 candidates: an item each, and one user with a city and a history of five."""
    options = {"crosses": [("user", "item")]} if name == "wide_deep" else {}
    features = [dataclasses.replace(f, role="item" if f.name == "item" else None) for f in FEATURES]
    backbone = get_backbone(name, features, **options)
    request = make_features(1, 40)
    rows = request.repeated()
    backbone(rows)
    read: list[tf.Tensor] = []
    lookup = backbone.embedding.lookup

    def counted(dim: int, rows: tf.Tensor) -> tf.Tensor:
        read.append(tf.size(rows))
        return lookup(dim, rows)

    specs = {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for name, v in rows.items()}
    shared = {name: specs[name] for name in request.once}
    own = {name: specs[name] for name in request.own}

    @tf.function
    def score(shared, own, requests, count):
        logits = backbone.candidate_logits(CandidateFeatures(shared, own, requests, count))
        return logits, tf.add_n(read)

    backbone.embedding.lookup = counted
    try:
        number = tf.TensorSpec([], tf.int32)
        score = score.get_concrete_function(shared, own, number, number)
        logits, count = score(
            *(tf.nest.flatten(request.once) + tf.nest.flatten(request.own)),
            tf.constant(1),
            tf.constant(40),
        )
    finally:
        backbone.embedding.lookup = lookup
    assert count == 40 + (2 + 5)
    np.testing.assert_allclose(logits, backbone(rows), atol=1e-5)
