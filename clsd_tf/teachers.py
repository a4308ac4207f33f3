"""What a teacher says of a batch, and a teacher that has said it before.

A teacher of `ClickConfidenceModel` is any layer from features to a logit. `StoredScores` hands on
what a teacher said of the rows before, so that a student costs what a plain model costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import Features, logits_of
from clsd_tf.distributed import is_on_cpu
from clsd_tf.ema import EMATeacher
from clsd_tf.features import TEACHER_LOGIT


@keras.saving.register_keras_serializable(package="clsd_tf")
class StoredScores(keras.layers.Layer):
    """A teacher that has scored every row before: returns the feature `_teacher_logit`.

    Input: a mapping with `_teacher_logit`, float `[batch]`, as `make_dataset(..., scores=...)`
    yields it. Output: float32 `[batch]`.

    >>> student = ClickConfidenceModel(backbone(), StoredScores(), confidence="global")
    >>> student.compile()
    >>> student.fit(make_dataset("prepared", "train", 512, scores="runs/plain/scores"))
    """

    # Of the reserved features, what this layer is given (see `clsd_tf.batches.logits_of`).
    reserved_inputs = (TEACHER_LOGIT,)

    def __init__(self, **kwargs):
        """See the class."""
        super().__init__(**kwargs)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See the class."""
        if TEACHER_LOGIT not in inputs:
            raise ValueError(
                f"The features hold no stored scores. Received: {', '.join(inputs)}. Expected: "
                f"'{TEACHER_LOGIT}', float [batch]. Pass `scores=` to `make_dataset`, or add the "
                "feature to the data set."
            )
        return tf.cast(inputs[TEACHER_LOGIT], tf.float32)


def logits_of_teacher(
    teacher: keras.layers.Layer,
    student: keras.layers.Layer,
    features: Features,
    labels: tf.Tensor,
    *,
    clicks_suffice: bool,
) -> tf.Tensor:
    """Applies a teacher to a batch of training; one that follows its student takes its step first.

    Args:
      teacher: features -> logits.
      student: the backbone that is taught.
      features: of the batch.
      labels: float32 [batch], in {0, 1}.
      clicks_suffice: whether nobody reads what the teacher says of other impressions. Then these
        are left out, which saves the larger part of a teacher's cost.

    Returns:
      float32 [batch], without a gradient; where `clicks_suffice`, anything where there is no click.
    """
    if isinstance(teacher, EMATeacher):
        # Of all rows that the student is about to change, or averages would miss a change.
        teacher.follow(student, features)
    rows = None
    if clicks_suffice and not isinstance(teacher, StoredScores) and _have_rows(features, labels):
        rows = _rows_of_clicks(features, labels)
        features = {name: tf.gather_nd(values, rows) for name, values in features.items()}
    logits = tf.stop_gradient(logits_of(teacher, features, training=False))
    return logits if rows is None else tf.scatter_nd(rows, logits, tf.shape(labels, tf.int64))


def _rows_of_clicks(features: Features, labels: tf.Tensor) -> tf.Tensor:
    """Where the clicks are, int64 [rows, 1], and the first row: few layers can be applied to none.

    Raises:
      tf.errors.InvalidArgumentError: a feature has no value for each row, when it is computed.
    """
    count = tf.size(labels)
    sizes = tf.stack([count, *(tf.shape(v)[0] for v in features.values() if v.shape[0] is None)])
    check = tf.debugging.Assert(
        tf.reduce_all(sizes == count),
        [
            "A feature has not as many rows as the batch, so that those of clicks cannot be taken. "
            "Expected: a value for each row; repeat one that is for all. Received, of the label "
            f"and then of those of {', '.join(features)} whose length is not fixed:",
            sizes,
        ],
        summarize=-1,
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.where((labels > 0.0) | (tf.range(count) == 0))


def _have_rows(features: Features, labels: tf.Tensor) -> bool:
    """Whether all features can be cut down to rows of the batch, at little cost."""
    # On a CPU alone it costs nothing that shapes differ from batch to batch.
    return is_on_cpu() and all(
        isinstance(values, tf.Tensor)
        and bool(values.shape.rank)
        and values.shape[0] == labels.shape[0]
        for values in features.values()
    )
