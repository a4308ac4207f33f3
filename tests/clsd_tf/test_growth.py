"""A model whose vocabularies have grown goes on as if its tables had always been larger."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tf_keras as keras

import clsd_tf
from clsd_tf.features import ModelFeature
from clsd_tf.growth import take_over
from tests.clsd_tf.conftest import NUM_GROUPS, Clicks


def grown(features: tuple[ModelFeature, ...], **more: int) -> tuple[ModelFeature, ...]:
    """Features whose tables have more rows."""
    return tuple(
        dataclasses.replace(f, cardinality=f.cardinality + more.get(f.table, 0)) for f in features
    )


def build(clicks: Clicks, inputs, seed: int, optimizer=None) -> clsd_tf.ClickConfidenceModel:
    keras.utils.set_random_seed(seed)
    student, teacher = (clsd_tf.get_backbone("mlp", inputs, units=[8]) for _ in range(2))
    for layer in (student, teacher):
        layer({feature.name: clicks.features[feature.name] for feature in inputs})
    teacher = clsd_tf.EMATeacher(teacher, decay=0.8, warmup_steps=1)
    model = clsd_tf.ClickConfidenceModel(student, teacher, "mixture", num_groups=NUM_GROUPS)
    model.compile(optimizer)
    return model


def outputs(clicks: Clicks, model: clsd_tf.ClickConfidenceModel) -> list[np.ndarray]:
    model.teacher.catch_up(model.backbone)
    inputs = {feature.name: clicks.features[feature.name] for feature in clicks.inputs}
    return [model.backbone(inputs).numpy(), model.teacher(inputs).numpy()]


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_goes_on_as_if_tables_had_always_been_larger(clicks, optimizer):
    first, rest = clicks.dataset(100).take(5), clicks.dataset(100).skip(5).take(5)
    old = build(clicks, clicks.inputs, 1, optimizer)
    old.fit(first, verbose=0)
    new = build(clicks, grown(clicks.inputs, user=7, item=12), 2, optimizer)
    fresh = new.backbone.embedding.embedding_variables[0].numpy()
    take_over(old, new)
    (table,) = (t.numpy() for t in new.backbone.embedding.embedding_variables)
    (before,) = (t.numpy() for t in old.backbone.embedding.embedding_variables)
    # 60 users and 7 new ones, then 40 items and 12 new ones.
    np.testing.assert_array_equal(table, [*before[:60], *fresh[60:67], *before[60:], *fresh[107:]])
    (averaged,) = (t.numpy() for t in new.teacher.backbone.embedding.embedding_variables)
    np.testing.assert_array_equal(averaged[60:67], fresh[60:67])
    for model in (old, new):
        model.fit(rest, verbose=0)
    for one, other in zip(outputs(clicks, old), outputs(clicks, new), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert old.confidence.table() == new.confidence.table()
    if optimizer is None:  # row-wise Adagrad leaves rows alone that no batch holds
        (after,) = (t.numpy() for t in new.backbone.embedding.embedding_variables)
        np.testing.assert_array_equal(after[60:67], fresh[60:67])


def test_tables_do_not_shrink(clicks):
    old = build(clicks, grown(clicks.inputs, user=1), 1)
    with pytest.raises(ValueError, match="can only grow. Received: rows .*Expected: at least"):
        take_over(old, build(clicks, clicks.inputs, 2))


class OwnTable(keras.layers.Layer):
    """A backbone whose table is no `FusedEmbedding`."""

    def __init__(self, users: int):
        super().__init__()
        self.users = keras.layers.Embedding(users, 1)

    def call(self, inputs):
        return self.users(inputs["user"])[:, 0]


def test_a_table_of_ones_own_cannot_grow(clicks):
    models = []
    for users in (60, 61):
        backbone = OwnTable(users)
        backbone(clicks.features)
        models.append(clsd_tf.ClickConfidenceModel(backbone))
        models[-1].compile()
    with pytest.raises(ValueError, match="no table of `FusedEmbedding`.*without --grow_vocabulary"):
        take_over(*models)
