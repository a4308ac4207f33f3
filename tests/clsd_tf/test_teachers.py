"""Stored scores teach what the teacher that gave them would teach."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.confidence import AffineConfidence
from clsd_tf.features import TEACHER_LOGIT
from tests.clsd_tf.conftest import NUM_GROUPS
from tests.marks import slow


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


@pytest.mark.parametrize(
    ("confidence", "overall"), [("global", "all"), ("mixture", "pooled"), ("affine", "pooled")]
)
def test_the_table_has_a_row_for_each_group(clicks, confidence, overall):
    names = ["few", "some", "many"]
    student = clsd_tf.ClickConfidenceModel(
        backbone(clicks, 1), backbone(clicks, 0), confidence, num_groups=NUM_GROUPS
    )
    student.compile()
    student.fit_confidence(clicks.dataset())
    # Validation resets the metrics of Keras; the table is of the training clicks all the same.
    history = student.fit(clicks.dataset(), validation_data=clicks.dataset(), verbose=0).history
    table = student.confidence_table(names)
    assert [row["group"] for row in table] == [overall, *names]
    logged = ["confidence", *(f"confidence_group_{g}" for g in range(NUM_GROUPS))]
    told = [row["mean_confidence"] for row in table]
    assert told == pytest.approx([history[name][-1] for name in logged], rel=1e-5)
    groups = clicks.features["_group"]
    expected = [np.sum(clicks.labels[groups == g]) for g in range(NUM_GROUPS)]
    assert [row["clicks"] for row in table] == [sum(expected), *expected]
    parameters = {row["group"]: row for row in student.confidence.table(names)}
    for row in table:
        assert parameters.get(row["group"], {}).items() <= row.items()


def test_a_single_group_has_one_row(clicks):
    student = clsd_tf.ClickConfidenceModel(backbone(clicks, 1), backbone(clicks, 0), "global")
    (row,) = student.confidence_table(["all"])
    assert row["group"] == "all" and row["mean_confidence"] is None and row["sharpness"] == 1.0
    plain = clsd_tf.ClickConfidenceModel(backbone(clicks, 1))
    with pytest.raises(ValueError, match="no confidence function to tell of"):
        plain.confidence_table()


def test_without_scores_it_says_what_is_missing(clicks):
    student = clsd_tf.ClickConfidenceModel(backbone(clicks, 1), clsd_tf.StoredScores(), "global")
    student.compile()
    with pytest.raises(ValueError, match="hold no stored scores.*'_teacher_logit'"):
        student.fit(clicks.dataset(), verbose=0)


def numpy_averages(weights: list[list[np.ndarray]], decay: float) -> list[np.ndarray]:
    """The dense average over the student's weights at the start of each step."""
    average = weights[0]
    for step, of_step in enumerate(weights[1:], start=1):
        d = min(decay, (1 + step) / (10 + step))
        average = [d * a + (1 - d) * w for a, w in zip(average, of_step, strict=True)]
    return average


@pytest.mark.parametrize("confidence", ["global", "affine"])
def test_lazy_averages_of_read_rows_are_the_dense_ones(clicks, confidence):
    model = ema_student(clicks, confidence, decay=0.6)
    student, teacher = model.backbone, model.teacher
    seen = []
    for features, label, _ in clicks.dataset(16).take(40):  # a batch holds few of the 100 rows
        seen.append([w.numpy() for w in student.weights])
        model.train_on_batch(features, label)
    inputs = {feature.name: features[feature.name] for feature in clicks.inputs}
    expected = backbone(clicks, 3)
    for weight, value in zip(expected.weights, numpy_averages(seen, 0.6), strict=True):
        weight.assign(value)
    np.testing.assert_allclose(teacher(inputs), expected(inputs), rtol=2e-4, atol=2e-5)
    (table,) = (w.numpy() for w in teacher.backbone.embedding.embedding_variables)
    (dense,) = (w.numpy() for w in expected.embedding.embedding_variables)
    assert np.abs(table - dense).max() > 1e-4  # other rows wait until they are read


def test_catching_up_brings_every_row_to_the_dense_average(clicks):
    student = backbone(clicks, 1)
    teacher = clsd_tf.EMATeacher(backbone(clicks, 2), decay=0.6)
    model = clsd_tf.ClickConfidenceModel(student, teacher, "global", num_groups=NUM_GROUPS)
    model.compile()
    seen = []
    for features, label, _ in clicks.dataset(16).take(12):
        seen.append([w.numpy() for w in student.weights])
        model.train_on_batch(features, label)
    teacher.catch_up(student)
    dense = numpy_averages(seen, 0.6)
    # A row that only the last batches held has been averaged with what they made of it already.
    changed = np.abs(seen[-1][0] - student.weights[0].numpy()).max(axis=1) > 0
    for place, (mine, expected) in enumerate(zip(teacher.backbone.weights, dense, strict=True)):
        rows = ~changed if place == 0 else slice(None)
        np.testing.assert_allclose(mine.numpy()[rows], expected[rows], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("confidence", [*map(slow, ["global", "affine"]), "mixture"])
def test_two_replicas_follow_as_one_does(clicks, two_replicas, confidence):
    def train() -> list[np.ndarray]:
        student = ema_student(clicks, confidence, warmup_steps=2, decay=0.7)
        student.fit(clicks.dataset(100).take(8), verbose=0)
        state = [*student.teacher.backbone.weights, *student.backbone.weights]
        if confidence != "global":
            state += [student.confidence.local_head.raw_scale, student.confidence.local_head.bias]
        return [[c.numpy() for c in two_replicas.experimental_local_results(v)] for v in state]

    alone = train()
    with two_replicas.scope():
        together = train()
    for one, (first, second) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)  # replicas are the same, bit by bit
        np.testing.assert_allclose(first, one[0], atol=2e-3)


def ema_student(clicks, confidence="global", **options) -> clsd_tf.ClickConfidenceModel:
    teacher = clsd_tf.EMATeacher(backbone(clicks, 2), **options)
    student = clsd_tf.ClickConfidenceModel(
        backbone(clicks, 1), teacher, confidence, num_groups=NUM_GROUPS
    )
    student.compile()
    return student


def test_plain_until_it_is_warm(clicks):
    plain = clsd_tf.ClickConfidenceModel(backbone(clicks, 1))
    plain.compile()
    student = ema_student(clicks, warmup_steps=5)
    batches = list(clicks.dataset(100))
    for step, (features, label, weight) in enumerate(batches[:6]):
        same = [np.allclose(*w, atol=1e-6) for w in pairs(student.backbone, plain.backbone)]
        assert all(same), step
        for model in (student, plain):
            model.train_on_batch(features, label, weight)
    assert not all(np.allclose(*w, atol=1e-6) for w in pairs(student.backbone, plain.backbone))


def pairs(one: keras.layers.Layer, other: keras.layers.Layer):
    return zip(one.get_weights(), other.get_weights(), strict=True)


def test_the_first_batch_is_scored_by_the_student_as_it_began(clicks):
    student = ema_student(clicks, warmup_steps=0)
    start = backbone(clicks, 1)
    features, label, _ = next(iter(clicks.dataset(64)))
    student.train_on_batch(features, label)
    for mine, theirs in pairs(student.teacher.backbone, start):
        np.testing.assert_array_equal(mine, theirs)


def test_a_step_in_a_graph_is_that_of_python(clicks):
    states = []
    for eagerly in (False, True):
        student = ema_student(clicks, "affine", warmup_steps=2, decay=0.7)
        student.compile(run_eagerly=eagerly)
        student.fit(clicks.dataset(100).take(8), verbose=0)
        student.teacher.catch_up(student.backbone)
        states.append([*student.teacher.get_weights(), *student.backbone.get_weights()])
    for graph, eager in zip(*states, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-3, atol=1e-5)


def test_two_steps_in_a_graph_are_those_of_python(clicks):
    class Twice(clsd_tf.ClickConfidenceModel):
        def train_step(self, data):
            super().train_step(data)
            return super().train_step(data)

    states = []
    for eagerly in (False, True):
        teacher = clsd_tf.EMATeacher(backbone(clicks, 2), warmup_steps=2, decay=0.7)
        student = Twice(backbone(clicks, 1), teacher, "affine", num_groups=NUM_GROUPS)
        student.compile(run_eagerly=eagerly)
        student.fit(clicks.dataset(100).take(5), verbose=0)
        states.append([*teacher.backbone.get_weights(), *student.backbone.get_weights()])
    for graph, eager in zip(*states, strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-3, atol=1e-5)


def test_a_step_reads_and_searches_the_tables_once(clicks):
    """The student to learn, and the teacher to average; what else wants rows has them at hand."""
    student = ema_student(clicks, "affine")
    features, label, _ = next(iter(clicks.dataset(64)))
    student.train_on_batch(features, label)
    step = tf.function(lambda features, label: student.train_step((features, label)))
    graph = step.get_concrete_function(features, label).graph

    def times_read(layer: keras.layers.Layer) -> int:
        (table,) = layer.embedding.embedding_variables
        users = graph.capture(table.handle).consumers()
        return [user.type for user in users].count("ResourceGatherNd")

    assert times_read(student.teacher.backbone) == times_read(student.backbone) == 1
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Unique") == 2  # users, and items with those of the history


def test_the_average_goes_on_from_a_checkpoint(clicks, tmp_path):
    def fit(model, skip, take):
        for features, label, _ in clicks.dataset(50).skip(skip).take(take):
            model.train_on_batch(features, label)
        return model

    undisturbed = fit(ema_student(clicks, "affine", warmup_steps=3), 0, 20)
    first = fit(ema_student(clicks, "affine", warmup_steps=3), 0, 11)
    path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).write(str(tmp_path / "c"))
    second = ema_student(clicks, "affine", warmup_steps=3)
    checkpoint = tf.train.Checkpoint(model=second, optimizer=second.optimizer)
    checkpoint.read(path).assert_existing_objects_matched()
    fit(second, 11, 9)
    for one, other in zip(undisturbed.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other, one.name)


def test_all_that_was_learned_goes_on_in_a_new_series(clicks, tmp_path):
    """The next day's rows train what the first day's left, as if there had been one series."""
    first_day, next_day = clicks.dataset(50).take(12), clicks.dataset(50).skip(12)
    whole = ema_student(clicks, "affine", warmup_steps=3)
    whole.fit(first_day.concatenate(next_day), verbose=0)
    first = ema_student(clicks, "affine", warmup_steps=3)
    first.fit(first_day, callbacks=[clsd_tf.StepCheckpoint(tmp_path)], verbose=0)
    second = ema_student(clicks, "affine", warmup_steps=3)
    clsd_tf.StepCheckpoint.restore_learned(second, tmp_path)
    second.fit(next_day, verbose=0)
    for part in ("backbone", "teacher", "confidence", "mean_weight"):
        for one, other in pairs(getattr(whole, part), getattr(second, part)):
            np.testing.assert_array_equal(one, other, part)
    with pytest.raises(RuntimeError, match="nothing to go on from. Received: no checkpoint in"):
        clsd_tf.StepCheckpoint.restore_learned(second, tmp_path / "none")


def test_what_an_ema_teacher_refuses(clicks):
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\).*Received: decay=1.0"):
        clsd_tf.EMATeacher(backbone(clicks, 1), decay=1.0)
    held_out = AffineConfidence(NUM_GROUPS)
    with pytest.raises(ValueError, match="is not there yet when confidence is fitted on held-out"):
        ema_student(clicks, held_out)
    other = clsd_tf.get_backbone("mlp", clicks.inputs, units=[4])
    student = clsd_tf.ClickConfidenceModel(backbone(clicks, 1), clsd_tf.EMATeacher(other), "global")
    student.compile()
    with pytest.raises(ValueError, match="of the same architecture as its student"):
        student.fit(clicks.dataset(), verbose=0)
