"""The student's loss against NumPy, and what it is when its parts are switched off."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.losses import click_loss
from clsd_tf.student import Lesson, StudentLoss

LOGITS = np.array([0.3, -1.2, 2.0, 0.0])
LABELS = np.array([1.0, 0.0, 1.0, 0.0])
TEACHER = np.array([1.0, -0.5, 0.25, 0.0])
CONFIDENCE = np.array([0.9, 0.8, 0.3, 0.1])
MEAN = 0.6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(labels, logits):
    p = sigmoid(logits)
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def lesson() -> Lesson:
    teacher, confidence, mean = (
        tf.constant(value, tf.float32) for value in (TEACHER, CONFIDENCE, MEAN)
    )
    return Lesson(teacher, confidence, mean_weight=mean)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("student", ["weight", "soft"])
def test_matches_numpy(student, share, temperature):
    if student == "weight":
        weights = np.where(LABELS == 1, CONFIDENCE / MEAN, 1.0)
        learned = weights * cross_entropy(LABELS, LOGITS)
    else:
        learned = cross_entropy(np.where(LABELS == 1, CONFIDENCE, 0.0), LOGITS)
    distilled = temperature**2 * cross_entropy(sigmoid(TEACHER / temperature), LOGITS / temperature)
    loss = StudentLoss(student, share, temperature)
    result = loss(tf.constant(LOGITS, tf.float32), tf.constant(LABELS, tf.float32), lesson())
    np.testing.assert_allclose(result, (1 - share) * learned + share * distilled, rtol=1e-5)


def test_golden_value():
    # A click of confidence .6 where clicks have .4 on average, at p = 1/2: 1.5 * log 2.
    one = [tf.constant([value]) for value in (0.0, 1.0, 0.6)]
    taught = Lesson(tf.constant([3.0]), one[2], mean_weight=tf.constant(0.4))
    assert float(StudentLoss()(one[0], one[1], taught)[0]) == pytest.approx(
        1.5 * 0.693147, abs=1e-5
    )


def test_without_a_lesson_clicks_are_taken_as_they_are():
    logits, labels = tf.constant(LOGITS, tf.float32), tf.constant(LABELS, tf.float32)
    expected = click_loss(logits, labels)
    np.testing.assert_array_equal(StudentLoss()(logits, labels, None), expected)
    pure = StudentLoss("soft", distillation=0.0)(logits, labels, Lesson(lesson().teacher_logits))
    np.testing.assert_array_equal(pure, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student": "hard"}, "Unknown `student`.*'hard'.*weight, soft"),
        ({"distillation": 1.5}, r"`distillation` must be in \[0, 1\].*1.5"),
        ({"temperature": 0.0}, "`temperature` must be > 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        StudentLoss(**arguments)
