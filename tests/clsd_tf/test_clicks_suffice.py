"""Where nobody reads what a teacher says of other impressions, it is asked of clicks alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.confidence import CONFIDENCE_FUNCTIONS, GlobalConfidence, combine, get_confidence
from tests.clsd_tf.conftest import NUM_GROUPS

OF_CLICKS = ["affine", "global", "mixture", "multi_granularity"]


class Recorded(keras.layers.Layer):
    """A teacher that knows how many rows it was asked of, and has a logit for each price."""

    def __init__(self):
        super().__init__()
        self.asked = self.add_weight(
            "asked", shape=(), dtype=tf.int64, initializer="zeros", trainable=False
        )

    def call(self, features):
        self.asked.assign_add(tf.size(features["price"], tf.int64))
        return 1.0 - 2.0 * features["price"]


def student_of(clicks, teacher, confidence, **options) -> clsd_tf.ClickConfidenceModel:
    keras.utils.set_random_seed(3)
    backbone = clsd_tf.get_backbone("mlp", clicks.inputs, units=[8])
    student = clsd_tf.ClickConfidenceModel(
        backbone, teacher, confidence, num_groups=NUM_GROUPS, **options
    )
    student.compile()
    student.fit_confidence(clicks.dataset())
    return student


def rows_asked(student, data) -> int:
    before = int(student.teacher.asked)
    student.fit(data, verbose=0)
    return int(student.teacher.asked) - before


def test_the_functions_that_learn_from_clicks_alone():
    assert sorted(n for n, f in CONFIDENCE_FUNCTIONS.items() if f.clicks_suffice) == OF_CLICKS
    teacher = clsd_tf.EMATeacher(Recorded())
    for name in ("affine", "mixture", "multi_granularity"):  # learned while the student trains
        model = clsd_tf.ClickConfidenceModel(keras.Sequential(), teacher, name)
        assert not model.confidence.clicks_suffice


@pytest.mark.parametrize("name", OF_CLICKS)
def test_what_a_teacher_says_of_other_impressions_changes_nothing(clicks, name):
    labels, group = clicks.labels, tf.constant(clicks.features["_group"])
    logits = tf.constant(1.0 - 2.0 * clicks.features["price"])
    made = []
    for of_others in (logits, tf.zeros_like(logits), 50.0 - logits):
        function = get_confidence(name, NUM_GROUPS)
        function.fit_held_out(logits.numpy(), labels, group.numpy())
        said = tf.where(labels > 0.0, logits, of_others)
        function.update(said, tf.constant(labels), group)
        confidence = combine(*function(said, group), alpha=0.3)
        emphasis = function.emphasis(said, group)
        made.append([v.numpy()[labels > 0] for v in (confidence, emphasis) if v is not None])
    for others in made[1:]:
        for one, other in zip(made[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", OF_CLICKS)
@pytest.mark.parametrize("student", ["weight", "soft"])
def test_a_student_learns_the_same_from_clicks_alone(clicks, monkeypatch, name, student):
    def trained() -> tuple[list[np.ndarray], dict[str, list[float]], int]:
        model = student_of(clicks, Recorded(), name, student=student)
        asked = int(model.teacher.asked)
        history = model.fit(clicks.dataset(), epochs=2, verbose=0).history
        return model.backbone.get_weights(), history, int(model.teacher.asked) - asked

    of_clicks, logged, few = trained()
    monkeypatch.setattr(CONFIDENCE_FUNCTIONS[name], "clicks_suffice", False)
    of_all, expected, many = trained()
    batches = len(list(clicks.dataset()))
    assert 2 * clicks.labels.sum() <= few <= 2 * (clicks.labels.sum() + batches)
    assert many == 2 * len(clicks.labels)
    assert logged.keys() == expected.keys()
    for name, values in logged.items():
        assert values == pytest.approx(expected[name], rel=1e-5), name
    for one, other in zip(of_clicks, of_all, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_all_are_scored_where_somebody_reads_it(clicks):
    class Watching(GlobalConfidence):
        def update(self, teacher_logits, labels, group):
            self.moments.update(teacher_logits, 1.0 - labels)

    class Louder(GlobalConfidence):
        clicks_suffice = True

        def update(self, teacher_logits, labels, group):
            self.moments.update(3.0 * teacher_logits, labels)

    class Mixin:
        def update(self, teacher_logits, labels, group):
            super().update(teacher_logits, 1.0 - labels, group)

    class Mixed(Mixin, GlobalConfidence):
        pass

    def asked(confidence, **options) -> int:
        student = student_of(clicks, Recorded(), confidence, **options)
        return rows_asked(student, clicks.dataset(len(clicks.labels)))

    shuffled = clsd_tf.get_objective("shuffled", NUM_GROUPS)
    assert asked("global", distillation=0.1) == len(clicks.labels)
    assert asked("global", objective=shuffled) == len(clicks.labels)
    # An `update` of one's own may read what that of the base class does not.
    assert asked(Watching()) == asked(Mixed()) == len(clicks.labels)
    assert asked(Louder()) <= clicks.labels.sum() + 1


def test_batches_without_a_click(clicks):
    student = student_of(clicks, Recorded(), "mixture")
    nothing = clicks.dataset().map(lambda features, label, weight: (features, 0.0 * label))
    student.fit(clicks.dataset().take(1), verbose=0)
    before = student.backbone.get_weights()
    assert rows_asked(student, nothing.take(3)) == 3  # one row of each, and nothing is made of it
    assert all(np.isfinite(w).all() for w in student.backbone.get_weights())
    assert any((w != b).any() for w, b in zip(student.backbone.get_weights(), before, strict=True))


class Priced(keras.layers.Layer):
    """A backbone that reads a price."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight("scale", shape=(), initializer="ones")

    def call(self, features):
        return self.scale * features["price"]


@pytest.mark.parametrize(
    "more",
    [
        lambda features: tf.sparse.from_dense(tf.cast(features["history"] > 20, tf.float32)),
        lambda features: tf.constant(0.5),
        lambda features: tf.constant([0.5]),
    ],
    ids=["sparse", "scalar", "one for all"],
)
def test_features_that_cannot_be_cut_down_to_rows_are_scored_as_they_are(clicks, more):
    class Teacher(Recorded):
        def call(self, features):
            added = features["more"]
            if isinstance(added, tf.SparseTensor):
                added = tf.sparse.reduce_sum(added, axis=1)
            return super().call(features) + added

    student = clsd_tf.ClickConfidenceModel(Priced(), Teacher(), "global", num_groups=NUM_GROUPS)
    student.compile()
    data = clicks.dataset().map(lambda f, y, w: ({**f, "more": more(f)}, y, w))
    assert rows_asked(student, data) == len(clicks.labels)


@pytest.mark.parametrize("length", [2, 500])
def test_a_feature_of_another_length_is_told_of(clicks, length):
    class Teacher(Recorded):
        def call(self, features):
            return super().call(features) + tf.reduce_mean(features["more"])

    student = clsd_tf.ClickConfidenceModel(Priced(), Teacher(), "global", num_groups=NUM_GROUPS)
    student.compile()
    more = tf.data.Dataset.from_tensors(tf.zeros([length])).unbatch().batch(length)
    batches = tf.data.Dataset.zip((clicks.dataset(), more.repeat())).map(
        lambda batch, vector: ({**batch[0], "more": vector}, batch[1])
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="not as many rows as the batch"):
        student.fit(batches, verbose=0)
