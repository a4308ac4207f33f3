"""Clicks by the logit that a model gave them before it learned from them: held out at no cost.

In its first pass over the rows a model has not seen the batch that it is about to train on, so the
logits of its own train step are those of held-out rows (progressive validation, Blum, Kalai and
Langford 1999, COLT). Every training row serves for fitting a confidence function by them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.distributed import all_reduce_sum
from clsd_tf.histograms import bin_centers, click_histogram


class ScoredClicks(NamedTuple):
    """Impressions with the logits of a model that has not trained on them.

    Attributes:
      logits: float32 [rows].
      labels: [rows], in {0, 1}.
      groups: int [rows].
      weights: float [rows], impressions that a row stands for; None: one each.
      num_groups: that the groups were told apart as; None if not known.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None
    num_groups: int | None = None


@keras.saving.register_keras_serializable(package="clsd_tf")
class ProgressiveClicks(keras.layers.Layer):
    """Histogram of clicks and non-clicks by group and logit, over the first pass of a training.

    A model's early logits say little. Batch t therefore counts t times, which leaves the weight of
    3/4 of all impressions (Kish's effective number, n = (sum of weights)^2 / sum of squares).

    Args:
      num_groups: number of user groups.
      num_bins: bins between logits -16 and 16. Defaults to 1024, a width of 1/32.
    """

    def __init__(self, num_groups: int, num_bins: int = 1024, **kwargs):
        """See the class."""
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_groups = num_groups
        self.num_bins = num_bins
        self.counting = self._add("counting", (), tf.bool)
        self._step = self._add("step", ())
        self._weighted = self._add("weighted", (num_groups, num_bins, 2))
        self._squares = self._add("squares", ())  # sum over impressions of their squared weights
        self.built = True

    def update(self, logits: tf.Tensor, labels: tf.Tensor, groups: tf.Tensor) -> None:
        """Adds a batch, unless it is not of the first pass (`counting` is False).

        Args:
          logits: float [batch], before the step on this batch.
          labels: [batch], in {0, 1}.
          groups: int [batch], in [0, num_groups).
        """
        counted = tf.cast(self.counting, tf.float32)
        step = self._step + counted
        batch = click_histogram(
            labels, logits, groups, num_groups=self.num_groups, num_bins=self.num_bins
        )
        batch = counted * all_reduce_sum(tf.stop_gradient(batch))
        self._step.assign(step)
        self._weighted.assign_add(step * batch)
        self._squares.assign_add(step * step * tf.reduce_sum(batch))

    def rows(self) -> ScoredClicks:
        """Returns the bins that are not empty, as weighted rows.

        Raises:
          ValueError: nothing was counted.
        """
        weighted = tf.convert_to_tensor(self._weighted).numpy().astype(np.float64)
        total = weighted.sum()
        if not total:
            raise ValueError(
                "There are no progressively scored clicks. Received: a model that has not trained "
                "on a first pass. Fit the confidence on held-out batches instead."
            )
        effective = weighted * (total / float(tf.convert_to_tensor(self._squares)))
        groups, bins, labels = np.nonzero(effective)
        return ScoredClicks(
            logits=bin_centers(self.num_bins)[bins],
            labels=labels.astype(np.float64),
            groups=groups,
            weights=effective[groups, bins, labels],
            num_groups=self.num_groups,
        )

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "num_groups": self.num_groups,
            "num_bins": self.num_bins,
        }

    def _add(self, name: str, shape: tuple[int, ...], dtype: tf.DType = tf.float32) -> tf.Variable:
        # Every replica adds the same reduced counts; a checkpoint stores one of them.
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


class FirstPass(keras.callbacks.Callback):
    """Tells a `ProgressiveClicks` which steps are on rows that were not trained on before.

    A `fit` is taken to be on new rows, from its first epoch on; later epochs repeat them.
    """

    def __init__(self, clicks: ProgressiveClicks):
        """See the class."""
        super().__init__()
        self._clicks = clicks

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Counts in the first epoch alone."""
        self._clicks.counting.assign(epoch == 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Steps outside of epochs are of rows of which nothing is known."""
        self._clicks.counting.assign(False)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """As at the end of an epoch, which a training that was stopped has not come to."""
        self._clicks.counting.assign(False)
