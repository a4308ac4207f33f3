"""What a batch holds, and how a layer that maps features to a logit is applied to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.features import GROUP, LABEL, ROW, TEACHER_LOGIT, USER, WEIGHT
from clsd_tf.folding import check_is_logit

Features = Mapping[str, tf.Tensor]
# Name of features that are one tensor and no dict.
BARE = "_inputs"
_NO_INPUTS = frozenset({LABEL, WEIGHT, GROUP, USER, ROW, TEACHER_LOGIT})


def unpack_batch(data: tuple) -> tuple[Features, tf.Tensor, tf.Tensor | None]:
    """Checks a batch of (features, label) or (features, label, weight).

    Returns:
      Features as given, one tensor as a dict of it; label and weight as float32 [batch], weight
      None if there is none.

    Raises:
      ValueError: it is something else.
    """
    parts = data if isinstance(data, tuple | list) else (data,)
    if len(parts) not in (2, 3) or isinstance(parts[0], tuple | list) or parts[1] is None:
        received = ", ".join(type(part).__name__ for part in parts)
        raise ValueError(
            "Batches must be (features, label) or (features, label, weight), with features a "
            f"dict of tensors, or one tensor. Received: ({received})."
        )
    features, labels, *rest = parts
    if not isinstance(features, Mapping):
        features = {BARE: features}
    weight = rest[0] if rest else None
    return features, _float_vector(labels), None if weight is None else _float_vector(weight)


def logits_of(
    layer: keras.layers.Layer, features: Features, *, training: bool | None = False
) -> tf.Tensor:
    """Applies a backbone to the features: float32 logits [batch].

    Raises:
      ValueError: the output is not one logit for each example.
    """
    outputs = layer(inputs_of(layer, features), training=training)
    check_is_logit(outputs, layer)
    return _float_vector(outputs)


def inputs_of(layer: keras.layers.Layer, features: Features) -> dict[str, tf.Tensor] | tf.Tensor:
    """What a layer is given of the features.

    Reserved entries, such as group and user, are kept from it, unless its attribute
    `reserved_inputs` names them: functional models warn of inputs that they do not know. What is
    left is given as it is if it was one tensor, or if the layer is a sequential model that begins
    with an `Input`, which has no names.
    """
    if not isinstance(features, Mapping):
        return features
    kept_back = _NO_INPUTS.difference(getattr(layer, "reserved_inputs", ()))
    inputs = {name: values for name, values in features.items() if name not in kept_back}
    begins_with_input = isinstance(layer, keras.Sequential) and layer.inputs
    if len(inputs) == 1 and (BARE in inputs or begins_with_input):
        return next(iter(inputs.values()))
    return inputs


def groups_of(
    features: Features, labels: tf.Tensor, *, num_groups: int, group_key: str
) -> tf.Tensor:
    """User group of each example, int64 [batch]; all 0 if there is one group.

    Raises:
      ValueError: there are several groups, and the features do not hold `group_key`.
      tf.errors.InvalidArgumentError: a group is out of range, when the batch is computed.
    """
    if num_groups == 1:
        return tf.zeros_like(labels, tf.int64)
    if group_key not in features:
        raise ValueError(
            f"The model has {num_groups} groups and finds none in the features. Received: "
            f"{', '.join(features)}. Expected: '{group_key}', int [batch] in [0, {num_groups}). "
            "Add it to the data set, or set `group_key`."
        )
    groups = tf.reshape(tf.cast(features[group_key], tf.int64), [-1])
    check = tf.debugging.Assert(
        tf.reduce_all((groups >= 0) & (groups < num_groups)),
        [
            f"A user group is out of range. Expected: `{group_key}` in [0, {num_groups}). Count "
            "groups from 0 and set `num_groups` to their number. Received, from and to:",
            tf.reduce_min(groups),
            tf.reduce_max(groups),
        ],
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(groups)


def score_batches(
    layer: keras.layers.Layer, batches: Iterable, *, num_groups: int, group_key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Applies a backbone to a finite data set.

    Args:
      layer: features -> logits.
      batches: (features, label, ...) each; weights are not used.
      num_groups: see `groups_of`.
      group_key: see `groups_of`.

    Returns:
      Logits float32, labels float32 and groups int64, [rows] each.

    Raises:
      ValueError: there are no batches, or no end of them.
    """
    if (
        isinstance(batches, tf.data.Dataset)
        and batches.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise ValueError(
            "The data set repeats forever. Received: infinite cardinality. Expected: one pass over "
            "the rows; leave `repeat()` out."
        )

    @tf.function(reduce_retracing=True)
    def score(features: Features, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        groups = groups_of(features, labels, num_groups=num_groups, group_key=group_key)
        return logits_of(layer, features), labels, groups

    scored = [score(*unpack_batch(batch)[:2]) for batch in batches]
    if not scored:
        raise ValueError(
            "The data set is empty. Received: no batch. Expected: one at least; is its split "
            "without rows, or was it read to its end before?"
        )
    logits, labels, groups = (
        tf.concat(parts, axis=0).numpy() for parts in zip(*scored, strict=True)
    )
    return logits, labels, groups


def _float_vector(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(values, tf.float32), [-1])
