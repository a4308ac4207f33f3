"""What is seen of a training while it runs: a progress bar, TensorBoard, the log of epochs."""

from __future__ import annotations

import json
import pathlib
import sys

import tensorflow as tf
import tf_keras as keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_pipeline.cli import write_json

_Logs = dict[str, float] | None


class ProgressBar(keras.callbacks.Callback):
    """Steps of an epoch on standard error, and a line for each epoch that ends.

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
        self._console = Console(file=sys.stderr)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
        )
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task(phase, total=steps, loss=float("nan"))

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Moves the bar to the place where the epoch goes on."""
        self._first = max(0, self._done - epoch * self._steps)
        title = f"{self._phase}, epoch {epoch + 1} of {self._epochs}"
        self._progress.reset(self._task, description=title, completed=self._first)

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Moves the bar."""
        completed = self._first + batch + 1
        self._progress.update(self._task, completed=completed, loss=logs["loss"])

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Sums the epoch up."""
        shown = {name: value for name, value in logs.items() if "_group_" not in name}
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        text = f"{self._phase}, epoch {epoch + 1} of {self._epochs}: {values}"
        self._console.print(text, highlight=False, soft_wrap=True)


class StepSummaries(keras.callbacks.Callback):
    """Scalars for TensorBoard by the number of steps since training began, over all resumes.

    Args:
      directory: of the event files.
      done: batches trained on before.
      every: steps between training scalars; validation is written at the end of an epoch.
    """

    def __init__(self, directory: pathlib.Path, done: int, every: int = 50):
        """See the class."""
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(directory))
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
        self._writer.flush()

    def _write(self, scalars: dict[str, float]) -> None:
        with self._writer.as_default(step=self._step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)


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
