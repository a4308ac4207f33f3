"""Callbacks that act on a training: export the best, stop it, refresh its teacher."""

from __future__ import annotations

import collections
import math
import pathlib
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import unpack_batch
from clsd_tf.ema import EMATeacher
from clsd_tf.progressive import ScoredClicks
from clsd_tf.teachers import StoredScores

Logs = dict[str, float] | None


class BestExport(keras.callbacks.Callback):
    """Exports the model whenever a metric is better than in all epochs before.

    Args:
      export: makes the export of a model and returns where it is, such as
        `lambda model: clsd_tf.export_model(model, encoder, "served")`.
      monitor: entry of the logs. Defaults to "val_auc".
      mode: "max" or "min", what is better. Defaults to "max".

    Attributes:
      best: the best value so far.
      path: what the last export returned, or None.
    """

    def __init__(
        self,
        export: Callable[[keras.Model], pathlib.Path],
        monitor: str = "val_auc",
        mode: str = "max",
    ):
        """See the class."""
        super().__init__()
        if mode not in ("max", "min"):
            raise ValueError(f"`mode` must be 'max' or 'min'. Received: mode={mode!r}.")
        self._export = export
        self.monitor = monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self.best = -self._sign * math.inf
        self.path: pathlib.Path | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Exports if the metric is the best; raises ValueError where it is not logged."""
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"`BestExport` finds no `{self.monitor}` in the logs. Received: "
                f"{', '.join(logs or {})}. Name one of these, or pass `validation_data` to `fit`."
            )
        value = float(logs[self.monitor])
        if self._sign * value > self._sign * self.best:  # never so for nan
            self.path = self._export(self.model)
            self.best = value


class NaNStop(keras.callbacks.Callback):
    """Ends a training whose loss is no number, and says in which batch and by which feature.

    Args:
      data: what is trained on, to look for the cause; best in a fixed order, so that the batch that
        is named is the one that was trained on. None for the number of the batch alone.
    """

    def __init__(self, data: Iterable | None = None):
        """See the class."""
        super().__init__()
        self._data = data
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Raises RuntimeError where the loss is not finite."""
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise RuntimeError(
                f"The loss is {float(loss)} after batch {batch} of epoch {self._epoch}. Received: "
                f"{self._cause()}"
            )

    def _cause(self) -> str:
        broken = [v.name for v in self.model.trainable_variables if not _finite(v)]
        if self._data is not None:
            for number, values in enumerate(self._data):
                for name, rows in _broken_columns(values).items():
                    return (
                        f"{name} is not finite in batch {number} of the data, in rows "
                        f"{', '.join(map(str, rows[:5]))}. Mend the rows, or give the column a "
                        "default in the spec."
                    )
            return (
                "All features, labels and weights are finite: the training itself diverged, and "
                f"these variables are no numbers: {', '.join(broken) or 'none'}. Lower the "
                "learning rate."
            )
        return (
            f"Variables that are no numbers: {', '.join(broken) or 'none'}. Pass `data` for more."
        )


def _broken_columns(batch: tuple) -> dict[str, list[int]]:
    """Rows of what is not finite in a batch, by name."""
    features, labels, weight = unpack_batch(batch)
    columns = {f"Feature `{name}`": values for name, values in features.items()}
    columns |= {"The label": labels, **({} if weight is None else {"The weight": weight})}
    return {name: np.flatnonzero(bad).tolist() for name, bad in _bad_rows(columns) if bad.any()}


def _bad_rows(columns: dict[str, tf.Tensor]) -> Iterable[tuple[str, np.ndarray]]:
    for name, values in columns.items():
        array = np.asarray(values)
        if np.issubdtype(array.dtype, np.floating):
            yield name, ~np.isfinite(array).reshape(len(array), -1).all(axis=1)


def _finite(variable: tf.Variable) -> bool:
    return not variable.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(variable)))


class TeacherRefresh(keras.callbacks.Callback):
    """Renews the teacher from its student between epochs.

        teacher <- decay * teacher + (1 - decay) * student

    With a decay of 0 the student becomes its own teacher: a generation within one `fit`. Else the
    teacher is an average over epochs; `EMATeacher` is one over steps. The confidence function is
    fitted again where it needs held-out rows. This project's reading.

    Args:
      every: epochs between renewals. Defaults to 1.
      decay: in [0, 1). Defaults to 0.
      held_out: rows that the student has not trained on, for `fit_confidence`.
    """

    def __init__(
        self, every: int = 1, decay: float = 0.0, held_out: Iterable | ScoredClicks | None = None
    ):
        """See the class."""
        super().__init__()
        if every < 1 or not 0.0 <= decay < 1.0:
            raise ValueError(
                "`every` must be >= 1 and `decay` in [0, 1). Received: "
                f"every={every}, decay={decay}."
            )
        self.every = every
        self.decay = decay
        self._held_out = held_out

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks that there is a teacher to renew."""
        teacher = getattr(self.model, "teacher", None)
        if teacher is None or isinstance(teacher, EMATeacher | StoredScores):
            raise ValueError(
                "`TeacherRefresh` renews a frozen teacher. Received: a model whose teacher is "
                f"{type(teacher).__name__}. Expected: a model of weights that do not follow. An "
                "EMATeacher follows by itself, and stored scores do not change; leave the callback "
                "out."
            )
        confidence = self.model.confidence
        if confidence is not None and confidence.needs_held_out and self._held_out is None:
            raise ValueError(
                f"The confidence of {type(confidence).__name__} is fitted on held-out rows, which "
                "have to be scored again by every new teacher. Received: held_out=None. Pass the "
                "rows that `fit_confidence` was given."
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Renews the teacher before every epoch but the first."""
        if epoch == 0 or epoch % self.every:
            return
        teacher, student = self.model.teacher, self.model.backbone
        shapes = [[tuple(w.shape) for w in layer.weights] for layer in (teacher, student)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "A teacher is renewed from a student of the same architecture. Received: weights "
                f"of shapes {shapes[0]} and {shapes[1]}. Build both by the same function."
            )
        for mine, theirs in zip(teacher.weights, student.weights, strict=True):
            if mine.dtype.is_floating:
                mine.assign(self.decay * mine + (1.0 - self.decay) * theirs)
            else:
                mine.assign(theirs)
        confidence = self.model.confidence
        if confidence is not None and confidence.needs_held_out:
            self.model.fit_confidence(self._held_out)


class EarlyStoppingOnMean(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` on a running mean.

    A metric of validation is averaged over the last `window` epochs, so that no single lucky epoch
    decides when a training ends. A metric of training is first averaged over all batches of
    its epoch: that of `tfrs.Model` is the last batch's, which is little but noise.

    Args:
      monitor: entry of the logs. Defaults to "val_loss".
      window: epochs to average over. Defaults to 3.
      **kwargs: for `keras.callbacks.EarlyStopping`, such as `patience` and `mode`.
    """

    def __init__(self, monitor: str = "val_loss", window: int = 3, **kwargs):
        """See the class."""
        super().__init__(monitor=monitor, **kwargs)
        if window < 1:
            raise ValueError(f"`window` must be at least 1 epoch. Received: window={window}.")
        self.window = window
        self._epochs: collections.deque[float] = collections.deque(maxlen=window)
        self._batches: list[float] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forgets an earlier training."""
        super().on_train_begin(logs)
        self._epochs.clear()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Forgets the batches of the epoch before."""
        self._batches = []

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Remembers the metric, if it is one of training."""
        if self.monitor in (logs or {}):
            self._batches.append(float(logs[self.monitor]))

    def get_monitor_value(self, logs: Logs) -> float:
        """Returns the running mean; raises ValueError where the metric is not logged."""
        if self._batches:
            value = float(np.mean(self._batches))
        elif self.monitor in (logs or {}):
            value = float(logs[self.monitor])
        else:
            raise ValueError(
                f"`EarlyStoppingOnMean` finds no `{self.monitor}` in the logs. Received: "
                f"{', '.join(logs or {})}. Name one of these, or pass `validation_data` to `fit`."
            )
        self._epochs.append(value)
        return float(np.mean(self._epochs))
