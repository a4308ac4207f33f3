"""Callbacks that watch a training: confidence, AUC within users and groups, throughput."""

from __future__ import annotations

import pathlib
import time
from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf import metrics
from clsd_tf.batches import groups_of, inputs_of, logits_of, unpack_batch
from clsd_tf.confidence import combine
from clsd_tf.features import USER
from clsd_tf.model import ClickConfidenceModel

Logs = dict[str, float] | None
_QUANTILES = (0.1, 0.5, 0.9)


class ConfidenceMonitor(keras.callbacks.Callback):
    """Shows in TensorBoard what the clicks of a data set are believed to be worth.

    At the end of every epoch it writes a histogram of the confidence over all clicks, one for each
    group, and a table of the groups: clicks, mean and deciles 1, 5 and 9. Logs get
    `monitored_confidence`, the mean.

    Args:
      data: batches (features, label, ...), such as a few thousand validation impressions.
      directory: of the event files.

    Raises:
      ValueError: the model is no `ClickConfidenceModel` with a confidence function.
    """

    def __init__(self, data: tf.data.Dataset, directory: str | pathlib.Path):
        """See the class."""
        super().__init__()
        self._data = data
        self._directory = str(directory)
        self._writer: tf.summary.SummaryWriter | None = None
        self._score = tf.function(self._confidence, reduce_retracing=True)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks that there is something to show."""
        if getattr(self.model, "confidence", None) is None:
            raise ValueError(
                "`ConfidenceMonitor` shows the confidence of clicks. Received: a model without a "
                "confidence function. Leave the callback out for plain models."
            )
        # Anew for each `fit`: the end of one closes it.
        self._writer = tf.summary.create_file_writer(self._directory)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Scores the data and writes."""
        parts = [self._score(*unpack_batch(batch)[:2]) for batch in self._data]
        confidence, groups = (
            np.concatenate([tensor.numpy() for tensor in tensors])
            for tensors in zip(*parts, strict=True)
        )
        names = ["all", *(f"group_{group}" for group in range(self.model.num_groups))]
        of_groups = [confidence, *(confidence[groups == g] for g in range(self.model.num_groups))]
        with self._writer.as_default(step=epoch):
            for name, values in zip(names, of_groups, strict=True):
                tf.summary.histogram(f"confidence/{name}", values)
            tf.summary.text("confidence/groups", confidence_table(names, of_groups))
        self._writer.flush()
        if logs is not None and len(confidence):
            logs["monitored_confidence"] = float(confidence.mean())

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the event files."""
        self._writer.close()

    def _confidence(self, features: dict, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Confidence and group of the clicks of a batch, [clicks] each."""
        model: ClickConfidenceModel = self.model
        groups = groups_of(features, labels, num_groups=model.num_groups, group_key=model.group_key)
        logits = logits_of(model.teacher, features)
        confidence = combine(*model.confidence(logits, groups), alpha=model.alpha)
        return confidence[labels > 0.0], groups[labels > 0.0]


def confidence_table(names: list[str], confidences: list[np.ndarray]) -> str:
    """A Markdown table: number of clicks, mean and quantiles of each set of confidences."""
    lines = ["| group | clicks | mean | 10 % | 50 % | 90 % |", "|---|---:|---:|---:|---:|---:|"]
    for name, values in zip(names, confidences, strict=True):
        shown = (
            [f"{value:.3f}" for value in (values.mean(), *np.quantile(values, _QUANTILES))]
            if len(values)
            else [""] * 4
        )
        lines.append(f"| {name} | {len(values)} | {' | '.join(shown)} |")
    return "\n".join(lines)


class GroupedValidation(keras.callbacks.Callback):
    """Adds exact AUCs of a validation set to the logs, for any model of one score.

    `val_gauc` is the average of the users' own AUCs (`clsd_tf.metrics.gauc`), `val_exact_auc` the
    one over all impressions. With `group_key` there is a `val_exact_auc_group_<group>` for each
    group that is seen. Put it before callbacks that watch one of these.

    Args:
      data: batches (features, label, ...).
      user_key: feature that tells users apart. Defaults to "_user", which `make_dataset` gives.
      group_key: feature that holds the group; None for no AUC by group.
      weighting: what a user counts, see `clsd_tf.metrics.gauc`. Defaults to "impressions".
    """

    def __init__(
        self,
        data: tf.data.Dataset,
        user_key: str = USER,
        group_key: str | None = None,
        weighting: Literal["impressions", "clicks", "uniform"] = "impressions",
    ):
        """See the class."""
        super().__init__()
        self._data = data
        self._user_key = user_key
        self._group_key = group_key
        self._weighting = weighting

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Scores the data; raises ValueError where the features lack the user or the group."""
        keys = [key for key in (self._user_key, self._group_key) if key is not None]
        columns: dict[str, list[np.ndarray]] = {"score": [], "label": [], **{k: [] for k in keys}}
        for batch in self._data:
            features, labels, _ = unpack_batch(batch)
            missing = [key for key in keys if key not in features]
            if missing:
                raise ValueError(
                    f"The validation set lacks what impressions are grouped by. Received: "
                    f"{', '.join(features)}. Expected also: {', '.join(missing)}."
                )
            scores = self.model.predict_on_batch(inputs_of(self.model, features))
            columns["score"].append(np.reshape(scores, [-1]))
            columns["label"].append(labels.numpy())
            for key in keys:
                columns[key].append(np.reshape(features[key], [-1]))
        whole = {name: np.concatenate(parts) for name, parts in columns.items()}
        labels, scores = whole["label"], whole["score"]
        logged = {
            "val_exact_auc": metrics.auc(labels, scores),
            "val_gauc": metrics.gauc(
                labels, scores, whole[self._user_key], weighting=self._weighting
            ).value,
        }
        if self._group_key is not None:
            by_group = metrics.auc_by_group(labels, scores, whole[self._group_key])
            logged |= {f"val_exact_auc_group_{name}": value for name, value in by_group.items()}
        if logs is not None:
            logs.update(logged)


class Throughput(keras.callbacks.Callback):
    """Adds `examples_per_second` and `cpu_microseconds` of an example to the logs of each epoch.

    The first batch of an epoch, in which graphs are built, and validation are not counted. CPU time
    is that of the process over all its threads: it repeats where wall time depends on neighbours.

    Args:
      batch_size: rows of a batch.
    """

    def __init__(self, batch_size: int):
        """See the class."""
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1. Received: batch_size={batch_size}.")
        self.batch_size = batch_size
        self._begin: tuple[int, float, float] | None = None
        self._end: tuple[int, float, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts anew."""
        self._begin = self._end = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks at the clocks."""
        self._end = batch, time.perf_counter(), time.process_time()
        self._begin = self._begin or self._end

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Logs, where there were two batches at least."""
        if logs is None or self._begin is None or self._end[0] == self._begin[0]:
            return
        batches, seconds, cpu = (e - b for e, b in zip(self._end, self._begin, strict=True))
        examples = batches * self.batch_size
        logs["examples_per_second"] = examples / seconds
        logs["cpu_microseconds"] = 1e6 * cpu / examples
