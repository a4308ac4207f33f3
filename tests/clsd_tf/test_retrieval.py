"""Two towers: the loss against NumPy, features by side, the index and its judge."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import ClickConfidenceModel, get_backbone
from clsd_tf.features import GROUP, ModelFeature
from clsd_tf.retrieval import TwoTowerModel, click_confidence
from clsd_tf.retrieval_index import build_index, distinct_items, export_index, recall_at_k

USER = ModelFeature("user", "categorical", cardinality=12, dim=4, table="user", role="user")
ITEM = ModelFeature("item", "categorical", cardinality=9, dim=4, table="item", role="item")
SHOP = ModelFeature("shop", "categorical", cardinality=4, dim=4, table="shop")
ROWS = 64


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    features = {
        "user": rng.integers(1, 12, ROWS),
        "item": rng.integers(1, 9, ROWS),
        GROUP: rng.integers(0, 2, ROWS),
        "liked": rng.integers(0, 2, ROWS).astype(np.float32),
    }
    features["shop"] = features["item"] % 4
    labels = rng.integers(0, 2, ROWS).astype(np.float32)
    weights = rng.uniform(0.5, 1.5, ROWS).astype(np.float32)
    return {n: tf.constant(v) for n, v in features.items()}, tf.constant(labels), weights


@pytest.fixture(scope="module")
def scorer(batch):
    teacher = ClickConfidenceModel(get_backbone("mlp", [USER, ITEM], units=[4]), num_groups=2)
    teacher.compile()
    data = tf.data.Dataset.from_tensors(batch)
    teacher.fit(data, epochs=20, verbose=0)
    model = ClickConfidenceModel(
        get_backbone("mlp", [USER, ITEM], units=[4]), teacher, "affine", num_groups=2
    )
    model.fit_confidence(data)
    return model


def reference_loss(model, batch, confidence, correct):
    """Mean over clicks of the loss in the docstring of `TwoTowerModel`, in float64."""
    features, labels, weights = batch
    clicked = labels.numpy() == 1
    rows = {name: tf.boolean_mask(v, clicked) for name, v in features.items()}
    users = model.user_tower(rows).numpy().astype(np.float64)
    items = model.item_tower(rows).numpy().astype(np.float64)
    c = np.asarray(confidence, np.float64)[clicked]
    ids = rows["item"].numpy()
    scores = users @ items.T
    total = 0.0
    for i in range(len(c)):
        # The clicked item itself, clicked by someone else in the batch, is no negative.
        counts = (ids != ids[i]) | (np.arange(len(c)) == i)
        mass = np.where(counts, (c if correct else np.ones_like(c)) * np.exp(scores[i]), 0)
        weight = c[i] / c.mean() * weights[clicked][i]
        total -= weight * np.log(mass[i] / mass.sum())
    return total / len(c)


@pytest.mark.parametrize("correct", [True, False])
def test_the_loss_is_that_of_the_docstring(batch, scorer, correct):
    model = TwoTowerModel([USER], [ITEM, SHOP], scorer, correct_negatives=correct, units=[4], dim=3)
    model.compile()
    logged = model.test_on_batch(*batch, return_dict=True)["loss"]
    confidence = click_confidence(scorer, batch[0], batch[1]).numpy()
    assert confidence.std() > 0.02
    assert logged == pytest.approx(reference_loss(model, batch, confidence, correct), rel=1e-4)


def test_without_a_scorer_it_is_the_softmax_over_the_batch(batch):
    model = TwoTowerModel([USER], [ITEM], units=[4], dim=3)
    model.compile()
    logged = model.test_on_batch(*batch, return_dict=True)["loss"]
    assert logged == pytest.approx(reference_loss(model, batch, np.ones(ROWS), True), rel=1e-4)


def test_only_the_towers_learn(batch, scorer):
    model = TwoTowerModel([USER], [ITEM], scorer, units=[4], dim=3)
    model.compile()
    teacher = [v.numpy().copy() for v in scorer.teacher.weights]
    before = model.test_on_batch(*batch, return_dict=True)["loss"]
    for _ in range(30):
        after = model.train_on_batch(*batch, return_dict=True)["loss"]
    assert after < before
    for was, now in zip(teacher, scorer.teacher.weights, strict=True):
        np.testing.assert_array_equal(was, now.numpy())
    learned = {v.ref() for v in model.trainable_variables}
    assert not learned & {v.ref() for v in scorer.teacher.variables}


def test_a_batch_without_clicks_teaches_nothing(batch):
    features, labels, weights = batch
    model = TwoTowerModel([USER], [ITEM], units=[4], dim=3)
    model.compile()
    model(features)
    before = [v.numpy().copy() for v in model.trainable_variables]
    loss = model.train_on_batch(features, tf.zeros_like(labels), weights)
    assert loss == 0.0
    assert before
    for was, now in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(was, now.numpy())


def test_the_item_tower_needs_the_item():
    with pytest.raises(ValueError, match=r"needs the item's id. Received: shop"):
        TwoTowerModel([USER], [SHOP])


def test_a_scorer_has_a_teacher(batch):
    plain = ClickConfidenceModel(get_backbone("mlp", [USER, ITEM], units=[4]))
    with pytest.raises(ValueError, match="without teacher or confidence"):
        TwoTowerModel([USER], [ITEM], plain)


def test_an_item_is_taken_as_it_was_seen_last():
    model = TwoTowerModel([USER], [ITEM, SHOP], units=[4], dim=3)
    first = {"item": np.array([5, 2, 5]), "shop": np.array([1, 2, 3]), "user": np.array([1, 1, 1])}
    last = {"item": np.array([2, 7]), "shop": np.array([0, 1]), "user": np.array([1, 1])}
    found = distinct_items([(first, None), (last, None)], model)
    assert found["item"].tolist() == [2, 5, 7]
    assert found["shop"].tolist() == [0, 3, 1]


def test_recall_counts_the_clicks_that_satisfied(batch):
    features, labels, _ = batch
    model = TwoTowerModel([USER], [ITEM], units=[4], dim=3)
    items = {"item": np.arange(1, 9)}
    index = build_index(model, items, k=3)
    scores = model.user_tower(features).numpy() @ model.item_tower(items).numpy().T
    best = np.argsort(-scores, axis=1)[:, :3] + 1
    hit = (best == features["item"].numpy()[:, None]).any(axis=1)
    clicked, liked = labels.numpy() == 1, features["liked"].numpy() == 1
    data = tf.data.Dataset.from_tensors(batch)
    assert recall_at_k(index, data, "item") == pytest.approx(hit[clicked].mean())
    judged = recall_at_k(index, data, "item", satisfaction_key="liked")
    assert judged == pytest.approx(hit[clicked & liked].mean())
    none = tf.data.Dataset.from_tensors((features, tf.zeros_like(labels)))
    assert np.isnan(recall_at_k(index, none, "item"))


def test_an_index_has_no_more_than_its_items():
    model = TwoTowerModel([USER], [ITEM], units=[4], dim=3)
    with pytest.raises(ValueError, match="at most the number of items. Received: k=9, 8"):
        build_index(model, {"item": np.arange(1, 9)}, k=9)


def test_the_exported_index_answers_as_the_index(tmp_path):
    model = TwoTowerModel([USER], [ITEM, SHOP], units=[4], dim=3)
    index = build_index(model, {"item": np.arange(1, 9), "shop": np.arange(8) % 4}, k=2)
    served = tf.saved_model.load(str(export_index(index, tmp_path / "index")))
    users = tf.constant([1, 4, 11], tf.int64)
    found = served.signatures["serving_default"](user=users)
    scores, items = index({"user": users})
    np.testing.assert_array_equal(found["items"], items)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-6)
    with pytest.raises(FileExistsError, match="a directory that does not exist"):
        export_index(index, tmp_path / "index")
