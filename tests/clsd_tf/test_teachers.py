"""Stored scores teach what the teacher that gave them would teach."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.features import TEACHER_LOGIT
from tests.clsd_tf.conftest import NUM_GROUPS


def backbone(clicks, seed: int) -> keras.layers.Layer:
    """With its weights, which depend on the seed."""
    keras.utils.set_random_seed(seed)
    layer = clsd_tf.get_backbone("mlp", clicks.inputs, units=[8])
    layer({feature.name: clicks.features[feature.name] for feature in clicks.inputs})
    return layer


def fitted(clicks, teacher, data, confidence: str) -> clsd_tf.ClickConfidenceModel:
    student = clsd_tf.ClickConfidenceModel(
        backbone(clicks, 1), teacher, confidence, num_groups=NUM_GROUPS, distillation=0.2
    )
    student.compile()
    student.fit_confidence(data)
    student.fit(data, epochs=2, verbose=0)
    return student


@pytest.mark.parametrize("confidence", ["global", "affine"])
def test_stored_scores_teach_like_the_teacher_that_gave_them(clicks, confidence):
    teacher = backbone(clicks, 0)
    teacher.head.kernel.assign(5 * teacher.head.kernel)

    def with_scores(features, label, weight):
        inputs = {feature.name: features[feature.name] for feature in clicks.inputs}
        return {**features, TEACHER_LOGIT: tf.reshape(teacher(inputs), [-1])}, label, weight

    frozen = fitted(clicks, teacher, clicks.dataset(), confidence)
    stored = fitted(clicks, clsd_tf.StoredScores(), clicks.dataset().map(with_scores), confidence)
    for one, other in zip(frozen.backbone.weights, stored.backbone.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_without_scores_it_says_what_is_missing(clicks):
    student = clsd_tf.ClickConfidenceModel(backbone(clicks, 1), clsd_tf.StoredScores(), "global")
    student.compile()
    with pytest.raises(ValueError, match="hold no stored scores.*'_teacher_logit'"):
        student.fit(clicks.dataset(), verbose=0)
