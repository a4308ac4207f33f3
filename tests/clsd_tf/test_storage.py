"""Tables of fewer bytes: what is read of them, and what is not changed by it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.export import export_model
from clsd_tf.features import ModelFeature
from clsd_tf.storage import TableStorage, embedding_tables, rows_touched, stored_tables
from tests.shop import REQUESTS, features_of, serialized, variable_bytes

FEATURES = (
    ModelFeature("item", "categorical", cardinality=6, dim=4, table="item"),
    ModelFeature("scene", "categorical", cardinality=3, dim=2, table="scene"),
    ModelFeature("price", "numeric"),
)
INPUTS = {
    "item": tf.constant([0, 3, 5, 3], tf.int64),
    "scene": tf.constant([0, 1, 2, 2], tf.int64),
    "price": tf.constant([0.0, 1.0, -1.0, 2.0]),
}


@pytest.fixture
def backbone():
    backbone = get_backbone("mlp", FEATURES, units=[4])
    backbone(INPUTS)
    return backbone


def logits(backbone, storage: TableStorage) -> np.ndarray:
    with stored_tables(backbone, storage):
        return backbone(INPUTS).numpy()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_reads_what_was_rounded(backbone, dtype):
    received = logits(backbone, TableStorage(dtype))
    assert np.any(received != backbone(INPUTS).numpy())
    for table in embedding_tables(backbone):
        table.assign(tf.cast(tf.cast(table, dtype), tf.float32))
    np.testing.assert_allclose(received, backbone(INPUTS), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_mixed_precision_reads_what_it_computes_in(dtype):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        backbone = get_backbone("mlp", FEATURES, units=[4])
        expected = backbone(INPUTS)
        touched = [np.ones(table.shape[0], bool) for table in embedding_tables(backbone)]
        received = logits(backbone, TableStorage(dtype, touched))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(received, expected, atol=0.02 * np.ptp(expected))


def test_untouched_rows_are_zeros(backbone):
    item, _scene = embedding_tables(backbone)
    touched = [np.arange(6) != 3, np.ones(3, bool)]
    received = logits(backbone, TableStorage(touched=touched))
    item.assign(tf.where(touched[0][:, np.newaxis], item, 0.0))
    np.testing.assert_allclose(received, backbone(INPUTS), rtol=1e-6)


def test_afterwards_the_tables_are_read_again(backbone):
    before = backbone(INPUTS).numpy()
    logits(backbone, TableStorage("bfloat16"))
    np.testing.assert_array_equal(before, backbone(INPUTS))
    with (
        pytest.raises(ValueError, match="within"),
        stored_tables(backbone, TableStorage("float16")),
    ):
        raise ValueError("within")
    np.testing.assert_array_equal(before, backbone(INPUTS))


def test_takes_half_the_bytes(shop_model, shop_encoder, shop_export, shop_served, tmp_path):
    touched = [np.arange(table.shape[0]) % 3 > 0 for table in embedding_tables(shop_model.backbone)]
    storage = TableStorage("float16", touched)
    path = export_model(shop_model, shop_encoder, tmp_path, storage=storage)
    tables = embedding_tables(shop_model.backbone)
    saved = sum(4 * t.shape[0] * t.shape[1] for t in tables)
    spent = sum(
        4 * t.shape[0] + 2 * (1 + kept.sum()) * t.shape[1]
        for t, kept in zip(tables, touched, strict=True)
    )
    assert variable_bytes(path) == variable_bytes(shop_export) - saved + spent
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    with stored_tables(shop_model.backbone, storage):
        expected = tf.sigmoid(shop_model.backbone(features_of(shop_encoder, REQUESTS)))
    np.testing.assert_allclose(served(inputs=serialized(REQUESTS))["outputs"], expected, atol=1e-6)


def test_changed_rows_are_the_touched_ones(backbone):
    other = get_backbone("mlp", FEATURES, units=[4])
    other(INPUTS)
    other.set_weights(backbone.get_weights())
    item, _ = embedding_tables(other)
    item.assign(tf.tensor_scatter_nd_add(item, [[2, 1], [5, 0]], [0.5, -0.5]))
    touched = rows_touched(backbone, other)
    assert [np.flatnonzero(rows).tolist() for rows in touched] == [[2, 5], []]


class TestMistakes:
    def test_a_value_that_does_not_fit(self, backbone):
        item, _ = embedding_tables(backbone)
        item.assign(tf.fill(item.shape, 1e6))
        with pytest.raises(ValueError, match="values that float16 does not. Received: 1e\\+06"):
            logits(backbone, TableStorage("float16"))

    def test_no_table_of_this_library(self):
        own = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))], name="own")
        with (
            pytest.raises(ValueError, match="Received: 'own' without one"),
            stored_tables(own, TableStorage("float16")),
        ):
            pass

    def test_rows_of_another_model(self, backbone):
        with pytest.raises(ValueError, match="shape \\(5,\\) for a table of 6 rows"):
            logits(backbone, TableStorage(touched=[np.ones(5, bool), np.ones(3, bool)]))
        with pytest.raises(ValueError, match="Received: 1 for 2"):
            logits(backbone, TableStorage(touched=[np.ones(6, bool)]))
        other = get_backbone("mlp", FEATURES[1:], units=[4])
        other({name: INPUTS[name] for name in ("scene", "price")})
        with pytest.raises(ValueError, match="tables of the same|longer than|shorter than"):
            rows_touched(backbone, other)
