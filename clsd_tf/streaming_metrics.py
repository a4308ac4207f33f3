"""Keras metrics that are kept per user group while a model is trained or evaluated.

Each returns one dict of its overall value and that of every group; `fit` and `evaluate` log the
entries under their own names. What saw no rows is nan, as in `clsd_tf.metrics`.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.histograms import click_histogram


class _GroupMetric(keras.metrics.Metric):
    """A metric with one entry per group; subclasses add their sums and return `_named` results."""

    def __init__(self, num_groups: int, name: str, dtype: str | None):
        _check_positive(num_groups=num_groups)
        super().__init__(name=name, dtype=dtype)
        self.num_groups = num_groups

    def reset_state(self) -> None:
        """Starts again; the base class could only reset scalars."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def get_config(self) -> dict[str, object]:
        """See `keras.metrics.Metric`."""
        return {**super().get_config(), "num_groups": self.num_groups}


@keras.saving.register_keras_serializable(package="clsd_tf")
class GroupAUC(_GroupMetric):
    """AUC of logits, overall and per group, from histograms.

    Rows of one bin of the logit count as ties, an error of the order of 1e-5 at the default;
    `clsd_tf.metrics.auc` is exact.

    Args:
      num_groups: number of user groups.
      num_bins: bins between logits -16 and 16. Defaults to 2048, a width of 1/64.
      name: key of the overall value. Groups have `<name>_group_<id>`.

    >>> metric = GroupAUC(num_groups=2)
    >>> metric.update_state(labels=[0, 1, 1], logits=[-1.0, 1.0, -2.0], groups=[0, 0, 0])
    >>> {key: float(value) for key, value in metric.result().items()}
    {'auc': 0.5, 'auc_group_0': 0.5, 'auc_group_1': nan}
    """

    def __init__(
        self,
        num_groups: int,
        num_bins: int = 2048,
        name: str = "auc",
        dtype: str | None = None,
    ):
        _check_positive(num_bins=num_bins)
        super().__init__(num_groups, name, dtype)
        self.num_bins = num_bins
        self.histogram = self.add_weight(
            "histogram", shape=(num_groups, num_bins, 2), initializer="zeros"
        )

    def update_state(
        self,
        labels: tf.Tensor,
        logits: tf.Tensor,
        groups: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          labels: [batch], in {0, 1}, or in [0, 1]: a soft label is split between the classes.
          logits: float [batch].
          groups: int [batch], in [0, num_groups).
          sample_weight: float [batch]. Defaults to all 1.
        """
        counts = click_histogram(
            labels,
            logits,
            groups,
            sample_weight,
            num_groups=self.num_groups,
            num_bins=self.num_bins,
        )
        self.histogram.assign_add(tf.cast(counts, self.dtype))

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the AUCs; nan where a class is absent."""
        groups = tf.convert_to_tensor(self.histogram)
        overall = tf.reduce_sum(groups, axis=0, keepdims=True)
        non_clicks, clicks = tf.unstack(tf.concat([overall, groups], axis=0), axis=-1)
        # A click wins against the non-clicks of lower bins, and half of those of its own.
        beaten = tf.cumsum(non_clicks, axis=-1) - 0.5 * non_clicks
        wins = tf.reduce_sum(clicks * beaten, axis=-1)
        pairs = tf.reduce_sum(clicks, axis=-1) * tf.reduce_sum(non_clicks, axis=-1)
        return _named(self.name, _ratio(wins, pairs))

    def get_config(self) -> dict[str, object]:
        """See `keras.metrics.Metric`."""
        return {**super().get_config(), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable(package="clsd_tf")
class GroupMean(_GroupMetric):
    """Mean of a value, overall and per group.

    Args:
      num_groups: number of user groups.
      name: key of the overall value. Groups have `<name>_group_<id>`.

    >>> metric = GroupMean(num_groups=2, name="confidence")
    >>> metric.update_state([0.2, 0.4], groups=[0, 0])
    >>> {key: round(float(value), 3) for key, value in metric.result().items()}
    {'confidence': 0.3, 'confidence_group_0': 0.3, 'confidence_group_1': nan}
    """

    def __init__(self, num_groups: int, name: str = "mean", dtype: str | None = None):
        super().__init__(num_groups, name, dtype)
        self.total = self.add_weight("total", shape=(num_groups,), initializer="zeros")
        self.weight = self.add_weight("weight", shape=(num_groups,), initializer="zeros")

    def update_state(
        self, values: tf.Tensor, groups: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
          values: float [batch].
          groups: int [batch], in [0, num_groups).
          sample_weight: float [batch]; labels, for a mean over clicks. Defaults to all 1.
        """
        values = tf.cast(values, self.dtype)
        weights = tf.ones_like(values)
        if sample_weight is not None:
            weights = tf.cast(sample_weight, self.dtype)
        for variable, summands in ((self.total, weights * values), (self.weight, weights)):
            variable.assign_add(tf.math.unsorted_segment_sum(summands, groups, self.num_groups))

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the means; nan where nothing was seen."""
        total, weight = tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.weight)
        means = [
            _ratio(tf.reduce_sum(total, keepdims=True), tf.reduce_sum(weight, keepdims=True)),
            _ratio(total, weight),
        ]
        return _named(self.name, tf.concat(means, axis=0))


def _named(name: str, values: tf.Tensor) -> dict[str, tf.Tensor]:
    """Names the overall value and the values of groups, [1 + num_groups]."""
    overall, *groups = tf.unstack(values)
    return {name: overall} | {f"{name}_group_{g}": value for g, value in enumerate(groups)}


def _ratio(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    undefined = tf.constant(float("nan"), numerator.dtype)
    return tf.where(denominator > 0.0, tf.math.divide_no_nan(numerator, denominator), undefined)


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={size}.")
