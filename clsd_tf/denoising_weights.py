"""Weights of clicks by their loss, by a teacher, or by what followed the click: pure functions.

Functions of [batch] tensors, computed in float32. Who multiplies losses by the weights stops their
gradient (`clsd_tf.denoising_base.ClickWeighing`).
"""

from __future__ import annotations

import tensorflow as tf


def truncation_weights(
    losses: tf.Tensor, labels: tf.Tensor, *, drop_share: tf.Tensor | float
) -> tf.Tensor:
    """Drops the clicks with the largest loss.

        w = 0  for floor(drop_share * clicks) clicks,    w = 1  for all else

    Source: truncated cross-entropy (T-CE), arXiv 2006.04153, on the clicks of the batch.

    Args:
      losses: float [batch], finite.
      labels: [batch], in {0, 1}.
      drop_share: scalar in [0, 1].

    Returns:
      float32 [batch], in {0, 1}. Of clicks with equal losses the first go first.
    """
    is_click = tf.cast(labels, tf.float32) > 0.0
    num_clicks = tf.reduce_sum(tf.cast(is_click, tf.float32))
    # floor(0.1 * 30) is 2 in float32 without the allowance for its rounding.
    num_dropped = tf.floor(tf.cast(drop_share, tf.float32) * num_clicks * (1.0 + 1e-6))
    worst_first = tf.argsort(
        tf.where(is_click, tf.cast(losses, tf.float32), tf.float32.min),
        direction="DESCENDING",
        stable=True,
    )
    rank = tf.math.invert_permutation(worst_first)
    return tf.where(is_click & (rank < tf.cast(num_dropped, tf.int32)), 0.0, 1.0)


def certainty_weights(losses: tf.Tensor, *, beta: float) -> tf.Tensor:
    """Weighs an example by the probability that the model gives its label.

        w = p^beta  where y = 1,    w = (1 - p)^beta  where y = 0

    Source: reweighted cross-entropy (R-CE), arXiv 2006.04153.

    Args:
      losses: `click_loss`, float [batch].
      beta: >= 0; 0 weighs all alike.

    Returns:
      float32 [batch], in (0, 1].
    """
    # The loss is -log p for a click and -log(1 - p) otherwise, so p_y^beta = exp(-beta * loss).
    return tf.exp(-beta * tf.cast(losses, tf.float32))


def label_quality(
    probabilities: tf.Tensor,
    labels: tf.Tensor,
    *,
    thresholds: tuple[tf.Tensor | float, tf.Tensor | float] | None = None,
) -> tf.Tensor:
    """Confidence of a classifier in the label that was given.

        q = p  where y = 1,    q = 1 - p  where y = 0

    With thresholds t_0 and t_1, the mean q of either class, probabilities are corrected for classes
    of unlike difficulty first, m being the larger of the two:

        p <- (p - t_1 + m) / (1 - t_0 - t_1 + 2 m)

    Source: `get_label_quality_scores` of cleanlab (arXiv 1911.00068) with self-confidence, without
    and with `adjust_pred_probs`. The normalized margin of two classes is the same number.

    Args:
      probabilities: of a click, float [batch], of a model that has not trained on the rows.
      labels: [batch], in {0, 1}.
      thresholds: (t_0, t_1), scalars; None to leave the probabilities as they are.

    Returns:
      float32 [batch], in [0, 1].
    """
    p = tf.cast(probabilities, tf.float32)
    if thresholds is not None:
        of_non_clicks, of_clicks = (tf.cast(value, tf.float32) for value in thresholds)
        largest = tf.maximum(of_non_clicks, of_clicks)
        p = (p - of_clicks + largest) / (1.0 - of_non_clicks - of_clicks + 2.0 * largest)
    return tf.where(tf.cast(labels, tf.float32) > 0.0, p, 1.0 - p)


def dwell_value(seconds: tf.Tensor) -> tf.Tensor:
    """Worth of a click by the time that the user stayed.

        T_N = 2.319 / (1 + exp(-(T - 15) / 20)) - 0.744

    Source: normalized dwell time, arXiv 2209.09000: 0 at once, levels off at 1.575.

    Args:
      seconds: T, float [batch], >= 0.

    Returns:
      float32 [batch], >= 0.
    """
    value = 2.319 * tf.sigmoid((tf.cast(seconds, tf.float32) - 15.0) / 20.0) - 0.744
    return tf.maximum(value, 0.0)


def permute_among_clicks(values: tf.Tensor, labels: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Gives each click the value of a random click of the batch; other rows keep theirs.

    Args:
      values: float [batch].
      labels: [batch], in {0, 1}.
      seed: int [2], see `tf.random`.

    Returns:
      float [batch], with the same values over clicks in another order.
    """
    clicks = tf.where(tf.cast(labels, tf.float32) > 0.0)
    permuted = tf.random.experimental.stateless_shuffle(tf.gather_nd(values, clicks), seed)
    return tf.tensor_scatter_nd_update(values, clicks, permuted)
