"""What is seen of a training while it runs: a bar, TensorBoard, the logs of steps and epochs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf import ClickConfidenceModel, ConfidenceMonitor, Encoder
from data_pipeline.cli import write_json
from data_pipeline.progress import Progress
from data_pipeline.reader import make_dataset
from experiments.learning_curve import LearningCurve
from experiments.phases import Phase
from experiments.runs import TrainConfig
from experiments.tensorboard_logs import group_table, write_hyperparameters

_Logs = dict[str, float] | None
_WATCHED_ROWS = 4096  # in a batch; four of them


class ProgressBar(keras.callbacks.Callback):
    """Steps of an epoch, see `data_pipeline.progress`, and a line for each epoch that ends.

    Args:
      phase: what is trained.
      steps: batches in an epoch.
      epochs: in all.
      done: batches trained on before.
    """

    def __init__(self, phase: str, steps: int, epochs: int, done: int):
        """See the class."""
        super().__init__()
        self._phase, self._steps, self._epochs, self._done = phase, steps, epochs, done
        self._first = 0
        self._bar = Progress(phase, steps, "steps")

    def __enter__(self) -> ProgressBar:
        self._bar.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.__exit__(*exception)

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Moves the bar to the place where the epoch goes on."""
        self._first = max(0, self._done - epoch * self._steps)
        self._bar.restart(self._title(epoch), self._first)

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Moves the bar."""
        self._bar.move_to(self._first + batch + 1, f"loss {logs['loss']:.4f}")

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Sums the epoch up."""
        shown = {name: value for name, value in logs.items() if "_group_" not in name}
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self._bar.say(f"{self._title(epoch)}: {values}")

    def _title(self, epoch: int) -> str:
        return f"{self._phase}, epoch {epoch + 1} of {self._epochs}"


class StepSummaries(keras.callbacks.Callback):
    """Scalars for TensorBoard by the number of steps since training began, over all resumes.

    At the end of an epoch comes a table of the user groups.

    Args:
      directory: of the event files.
      done: batches trained on before.
      group_names: of the user groups.
      config: of the run, if its hyperparameters are to be shown.
      every: steps between training scalars; validation is written at the end of an epoch.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        done: int,
        group_names: Sequence[str],
        config: TrainConfig | None = None,
        every: int = 50,
    ):
        """See the class."""
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(directory))
        if config is not None and not done:
            with self._writer.as_default(step=0):
                write_hyperparameters(config)
        self._group_names = group_names
        self._step = done
        self._every = every
        self._in_epoch = 0

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Batches are counted by Keras within an epoch."""
        self._in_epoch = 0

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Writes training scalars; one call may stand for several batches."""
        before = self._step
        self._step += batch + 1 - self._in_epoch
        self._in_epoch = batch + 1
        if self._step // self._every > before // self._every:
            self._write({f"train/{name}": value for name, value in logs.items()})

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Writes validation scalars."""
        validation = {k: v for k, v in logs.items() if k.startswith("val_")}
        self._write({f"valid/{name.removeprefix('val_')}": v for name, v in validation.items()})
        if table := group_table(logs, self._group_names):
            with self._writer.as_default(step=self._step):
                tf.summary.text("groups", table)
        self._writer.flush()

    def _write(self, scalars: dict[str, float]) -> None:
        with self._writer.as_default(step=self._step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)


def watchers(
    phase: Phase, model: ClickConfidenceModel, encoder: Encoder, done: int
) -> list[keras.callbacks.Callback]:
    """What writes for TensorBoard while a phase trains, after `done` batches."""
    place, config = phase.run.logs / phase.name, phase.config
    shown = config if phase.details else None
    found = [StepSummaries(place, done, encoder.group_names(), shown)]
    if phase.shows_values and model.confidence is not None:
        sample = make_dataset(  # training rows are in random order
            config.data_dir, "train", _WATCHED_ROWS, shuffle=False, scores=phase.scores
        )
        found.append(ConfidenceMonitor(sample.take(4), place))
    return found


class CurveLog(keras.callbacks.Callback):
    """Feeds a learning curve.

    Args:
      curve: that is fed.
      steps: batches in an epoch.
      done: batches trained on before.
    """

    def __init__(self, curve: LearningCurve, steps: int, done: int):
        """See the class."""
        super().__init__()
        self._curve, self._steps, self._done = curve, steps, done

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Means begin anew, or go on in the epoch that was interrupted."""
        self._curve.begin_epoch(max(0, self._done - epoch * self._steps))

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Counts the batch."""
        self._curve.add(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Writes what is left of the epoch."""
        self._curve.end_epoch(logs)


class EpochLogs(keras.callbacks.Callback):
    """Keeps what was logged at the end of each epoch in a JSON file, over all resumes."""

    def __init__(self, path: pathlib.Path):
        """See the class."""
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Adds the epoch, or replaces it if it was resumed after its end was logged."""
        epochs = self.read()[:epoch]
        epochs.append({"epoch": epoch, **{name: float(v) for name, v in logs.items()}})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, epochs)

    def read(self) -> list[dict[str, float]]:
        """All epochs so far."""
        return json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else []
