"""Per-example losses, soft labels and click weights of click-confidence learning.

Pure functions of [batch] tensors, computed in float32; the caller reduces. Confidence and teacher
logits are targets: no gradient flows into them.

Source: the structure is that of arXiv 2309.16322 (abstract); the formulas are this project's
reading.
"""

from __future__ import annotations

import tensorflow as tf


def click_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy between labels and sigmoid(logits).

        loss = -[ y * log sigmoid(z) + (1 - y) * log sigmoid(-z) ]

    Args:
      logits: float [batch].
      labels: [batch], clicks in {0, 1} or soft labels in [0, 1].

    Returns:
      float32 [batch], in nats.

    Raises:
      ValueError: if the static shapes differ.
    """
    logits, labels = _float_vectors(logits=logits, labels=labels)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


def soft_labels(labels: tf.Tensor, confidence: tf.Tensor) -> tf.Tensor:
    """Replaces the label of a click by its confidence: y * c.

    Args:
      labels: [batch], in {0, 1}.
      confidence: float [batch], in (0, 1]; it is not read where there is no click.

    Returns:
      float32 [batch], in [0, 1], without a gradient to `confidence`.

    Raises:
      ValueError: if the static shapes differ.
    """
    labels, confidence = _float_vectors(labels=labels, confidence=confidence)
    return tf.where(labels > 0.0, tf.stop_gradient(confidence), 0.0)


def click_weights(
    labels: tf.Tensor,
    confidence: tf.Tensor,
    *,
    mean_weight: tf.Tensor | float,
    non_click_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Weighs a click by its confidence, so that weights average 1.

        w = c / mean(c over clicks)  where y = 1,    w = 1  where y = 0

    Without the mean the learning rate would change with the level of the confidence, and so would
    the predicted click rate. With weights u of non-clicks that belong with c, such as 1 / (1 - e)
    of the noise mixture, clicks and non-clicks keep their proportion:

        w = c / mean(w)  where y = 1,    w = u / mean(w)  where y = 0

    Args:
      labels: [batch], in {0, 1}.
      confidence: float [batch], in (0, 1]; it is not read where there is no click.
      mean_weight: scalar, usually a running mean (`RunningClickMoments`): of c over clicks or, with
        `non_click_weights`, of c and u over all impressions. Where it is 0, because nothing was
        seen yet, weights that are divided by it are 0.
      non_click_weights: u, float [batch], > 0; they are not read where there is a click.

    Returns:
      float32 [batch], without a gradient to `confidence`.

    Raises:
      ValueError: if the static shapes differ.
    """
    labels, confidence = _float_vectors(labels=labels, confidence=confidence)
    mean = tf.cast(mean_weight, tf.float32)
    weights = tf.math.divide_no_nan(confidence, mean)
    others = tf.ones_like(weights)
    if non_click_weights is not None:
        others = tf.math.divide_no_nan(tf.cast(non_click_weights, tf.float32), mean)
    return tf.stop_gradient(tf.where(labels > 0.0, weights, others))


def emphasis_weights(labels: tf.Tensor, emphasis: tf.Tensor) -> tf.Tensor:
    """Weighs a click by its emphasis: w where y = 1, 1 where y = 0.

    Args:
      labels: [batch], in {0, 1}.
      emphasis: w, float [batch], > 0; it is not read where there is no click.

    Returns:
      float32 [batch], without a gradient to `emphasis`.

    Raises:
      ValueError: if the static shapes differ.
    """
    labels, emphasis = _float_vectors(labels=labels, emphasis=emphasis)
    return tf.where(labels > 0.0, tf.stop_gradient(emphasis), 1.0)


def distillation_loss(
    logits: tf.Tensor, teacher_logits: tf.Tensor, *, temperature: float
) -> tf.Tensor:
    """Cross-entropy between the softened predictions of teacher and student.

        loss = tau^2 * CE(sigmoid(z_T / tau), sigmoid(z / tau))

    tau^2 keeps the size of the gradient, which the two divisions by tau shrink
    (arXiv 1503.02531, section 2).

    Args:
      logits: float [batch], of the student.
      teacher_logits: float [batch]; no gradient flows into them.
      temperature: tau, > 0.

    Returns:
      float32 [batch], in nats.

    Raises:
      ValueError: if `temperature` is not positive or the static shapes differ.
    """
    if not temperature > 0.0:
        raise ValueError(
            f"`temperature` must be > 0. Received: temperature={temperature}. "
            "1.0 compares the predictions as they are, larger values soften them."
        )
    logits, teacher_logits = _float_vectors(logits=logits, teacher_logits=teacher_logits)
    targets = tf.sigmoid(tf.stop_gradient(teacher_logits) / temperature)
    return temperature**2 * click_loss(logits / temperature, targets)


def _float_vectors(**tensors: tf.Tensor) -> list[tf.Tensor]:
    """Casts to float32 and checks that the shapes agree.

    [batch] against [batch, 1] would broadcast to [batch, batch] and train on nonsense.
    """
    vectors = {name: tf.cast(tensor, tf.float32) for name, tensor in tensors.items()}
    (first, *others) = vectors.values()
    if not all(other.shape.is_compatible_with(first.shape) for other in others):
        shapes = ", ".join(f"{name} {vector.shape}" for name, vector in vectors.items())
        raise ValueError(
            f"All arguments must have the same shape, [batch]. Received: {shapes}. "
            "Squeeze or reshape the one that has an extra axis."
        )
    return list(vectors.values())
