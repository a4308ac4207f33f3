"""What is the same on one device and under `tf.distribute`."""

from __future__ import annotations

import tensorflow as tf


def all_reduce_sum(value: tf.Tensor) -> tf.Tensor:
    """Sum over the replicas, on each of them; the value itself on one device."""
    context = tf.distribute.get_replica_context()
    if context is None:  # cross-replica: the value is the global one already
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
