"""Running mean and standard deviation of a value over clicks, for use inside a train step."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.distributed import all_reduce_sum

# Equal values have a mean that is off by roundings of float32, hence a deviation that is not 0.
_ROUNDING = 1e-5


@keras.saving.register_keras_serializable(package="clsd_tf")
class RunningClickMoments(keras.layers.Layer):
    """Exponentially decayed mean and standard deviation of a value over clicks.

    A click that is k updates old counts decay^k. The moments are sums divided by the count, so
    they are exact from the first batch on, where an average that starts at 0 would not be. Under
    `tf.distribute` all replicas hold the moments of the global batch.

    Called as a layer it standardises: (values - mean) / standard_deviation, or 0 while the
    standard deviation is 0 (no clicks yet, or all alike).

    Args:
      decay: in (0, 1]. Defaults to 0.99, a memory of about 100 updates; 1 never forgets.

    Input shape: float [batch]. Output shape: float32 [batch].

    >>> moments = RunningClickMoments()
    >>> moments.update(tf.constant([1.0, 3.0, 9.0]), labels=tf.constant([1, 1, 0]))
    >>> float(moments.mean), float(moments.standard_deviation)
    (2.0, 1.0)
    """

    def __init__(self, decay: float = 0.99, **kwargs):
        if not 0.0 < decay <= 1.0:
            raise ValueError(
                f"`decay` must be in (0, 1]. Received: decay={decay}. "
                "0.99 remembers about 100 updates, 1 remembers all."
            )
        kwargs.setdefault("dtype", "float32")  # moments of half-precision values would not add up
        super().__init__(**kwargs)
        self.decay = decay
        self._count = self._add_scalar("count")
        self._mean = self._add_scalar("mean")
        self._sum_of_squares = self._add_scalar("sum_of_squares")  # around the mean
        self.built = True

    @property
    def count(self) -> tf.Tensor:
        """Decayed number of clicks: float32 scalar."""
        return tf.convert_to_tensor(self._count)

    @property
    def mean(self) -> tf.Tensor:
        """float32 scalar, 0 before the first click."""
        return tf.convert_to_tensor(self._mean)

    @property
    def standard_deviation(self) -> tf.Tensor:
        """float32 scalar, 0 before the first click."""
        return tf.sqrt(tf.math.divide_no_nan(self._sum_of_squares, self._count))

    def update(self, values: tf.Tensor, labels: tf.Tensor) -> None:
        """Adds a batch.

        Args:
          values: float [batch].
          labels: [batch], in {0, 1}; rows without a click do not count.
        """
        values = tf.stop_gradient(tf.cast(values, tf.float32))
        is_click = tf.cast(labels, tf.float32) > 0.0
        clicks = tf.cast(is_click, tf.float32)
        # Sums of squares around 0 would cancel catastrophically where the mean is large, so the
        # batch mean is agreed on first and the squares are taken around it.
        sums = [tf.reduce_sum(clicks), tf.reduce_sum(tf.where(is_click, values, 0.0))]
        count, total = tf.unstack(all_reduce_sum(tf.stack(sums)))
        mean = tf.math.divide_no_nan(total, count)
        squares = tf.where(is_click, tf.square(values - mean), 0.0)
        sum_of_squares = all_reduce_sum(tf.reduce_sum(squares))

        # Merging two samples of sizes m (the past, decayed) and n (the batch):
        #   mean' = mean_m + d * n / (m + n),  d = mean_n - mean_m
        #   S'    = S_m + S_n + d^2 * m * n / (m + n)
        past = self.decay * self._count
        share = tf.math.divide_no_nan(count, past + count)
        shift = mean - self._mean
        self._sum_of_squares.assign(
            self.decay * self._sum_of_squares + sum_of_squares + shift * shift * past * share
        )
        self._mean.assign_add(shift * share)
        self._count.assign(past + count)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Standardises `values` by the moments of the clicks seen so far."""
        mean, deviation = self.mean, self.standard_deviation
        spread = deviation > _ROUNDING * tf.abs(mean)
        return tf.where(spread, tf.math.divide_no_nan(values - mean, deviation), 0.0)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "decay": self.decay}

    def _add_scalar(self, name: str) -> tf.Variable:
        # Every replica computes the same value from the reduced sums: each keeps its own copy
        # without further communication, and a checkpoint stores their mean.
        return self.add_weight(
            name=name,
            shape=(),
            initializer="zeros",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
