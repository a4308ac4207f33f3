"""Clicks and non-clicks counted by user group and by bin of the logit."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Logits are told apart within +-16, click rates of 1e-7 and beyond on either side.
_LOGIT_RANGE = 16.0


def click_histogram(
    labels: tf.Tensor,
    logits: tf.Tensor,
    groups: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    *,
    num_groups: int,
    num_bins: int,
) -> tf.Tensor:
    """Counts a batch in equal bins of the logit.

    Bins of the logit, not of the probability: rare clicks, whose probabilities crowd near 0, keep
    the same resolution.

    Args:
      labels: [batch], in {0, 1}, or in [0, 1]: a soft label is split between the classes.
      logits: float [batch].
      groups: int [batch], in [0, num_groups).
      sample_weight: float [batch]. Defaults to all 1.
      num_groups: number of groups.
      num_bins: bins between logits -16 and 16; the outer ones hold what is beyond.

    Returns:
      float32 [num_groups, num_bins, 2]: non-clicks, clicks.
    """
    labels = tf.cast(labels, tf.float32)
    position = (tf.cast(logits, tf.float32) / _LOGIT_RANGE + 1.0) * (0.5 * num_bins)
    bins = tf.cast(tf.clip_by_value(position, 0.0, num_bins - 1.0), tf.int32)
    cells = tf.cast(groups, tf.int32) * num_bins + bins
    masses = tf.stack([1.0 - labels, labels], axis=-1)
    if sample_weight is not None:
        masses *= tf.cast(sample_weight, tf.float32)[:, tf.newaxis]
    counts = tf.math.unsorted_segment_sum(masses, cells, num_groups * num_bins)
    return tf.reshape(counts, [num_groups, num_bins, 2])


def bin_centers(num_bins: int) -> np.ndarray:
    """The logit in the middle of each bin: float64 [num_bins]."""
    return ((np.arange(num_bins) + 0.5) / num_bins * 2.0 - 1.0) * _LOGIT_RANGE
