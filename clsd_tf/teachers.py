"""Teachers that are not simply a frozen backbone.

A teacher of `ClickConfidenceModel` is any layer from features to a logit. `StoredScores` hands on
what a teacher said of the rows before, so that a student costs what a plain model costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

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
