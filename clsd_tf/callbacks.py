"""Keras callbacks of click-confidence training."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import tensorflow as tf
import tf_keras as keras

from clsd_tf.distributed import from_chief, is_in_charge
from clsd_tf.ema import EMATeacher
from clsd_tf.model import ClickConfidenceModel

_PREFIX = "ckpt"


class StepCheckpoint(keras.callbacks.Callback):
    """Saves model, optimizer and position in the data, so that training goes on where it stopped.

    `keras.callbacks.BackupAndRestore` restores the weights and replays the epoch from its first
    batch; here the caller is told how many batches to skip, and the resumed run ends with the same
    weights as an undisturbed one. Random layers, such as dropout, draw anew after a resume, and the
    metrics of the epoch cover its rest only.

    Under `MultiWorkerMirroredStrategy` every worker has this callback on the same, shared
    directory: all take part in saving, since some values are means over replicas, and the chief
    alone writes there. All go on from the checkpoint that the chief finds.

    Args:
      directory: where checkpoints are kept; the two latest.
      every: batches between checkpoints. The end of an epoch is always one.

    >>> checkpoint = StepCheckpoint("run/checkpoints", every=1000)
    >>> done = checkpoint.restore(model)  # 0 the first time
    >>> rest = make_dataset("prepared", "train", 512, seed=0, skip_batches=done)
    >>> model.fit(rest, callbacks=[checkpoint])
    """

    def __init__(self, directory: str | pathlib.Path, every: int = 1000):
        """See the class."""
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1 batch. Received: every={every}.")
        self.directory = pathlib.Path(directory)
        self.every = every
        self._batches = tf.Variable(0, dtype=tf.int64, trainable=False, name="batches")
        # Whether it was saved in the middle of an epoch, whose means then go on as well.
        self._within_epoch = tf.Variable(False, trainable=False, name="within_epoch")
        self._means: list[tuple[tf.Variable, tf.Tensor]] = []
        self._manager: tf.train.CheckpointManager | None = None
        self._in_epoch = 0
        self._unsaved = 0
        self._scratch: tempfile.TemporaryDirectory | None = None

    def restore(self, model: keras.Model) -> int:
        """Loads the latest checkpoint into a compiled `model`, if there is one.

        Returns:
          Batches that the model was trained on, over all epochs.

        Raises:
          RuntimeError: the checkpoint is of another model.
        """
        checkpoint = self._open(model)
        latest = self._latest()
        if latest is None:
            return 0
        with _must_fit(latest):
            # Variables that do not exist yet are restored when the first batch creates them.
            checkpoint.restore(latest).assert_existing_objects_matched()
        if self._within_epoch:
            variables = [variable for metric in model.metrics for variable in metric.variables]
            self._means = [(v, tf.identity(v.read_value())) for v in variables]
        return int(self._batches)

    @staticmethod
    def restore_learned(model: ClickConfidenceModel, directory: str | pathlib.Path) -> None:
        """Loads what another series left at its end into a compiled `model`, to train on new rows.

        Backbone, optimizer, what confidence has learned, and a teacher that follows its student;
        not a frozen teacher, and no position in the data.

        Args:
          model: of the same options as the one that was trained.
          directory: of the other series.

        Raises:
          RuntimeError: there is no checkpoint, or it is of another model.
        """
        latest = tf.train.latest_checkpoint(str(directory))
        if latest is None:
            raise RuntimeError(
                f"There is nothing to go on from. Received: no checkpoint in {directory}. "
                "Expected: a run that has trained this model itself."
            )
        learned = {
            "backbone": model.backbone,
            "mean_weight": model.mean_weight,
            **({"confidence": model.confidence} if model.confidence is not None else {}),
            **({"teacher": model.teacher} if isinstance(model.teacher, EMATeacher) else {}),
        }
        checkpoint = tf.train.Checkpoint(
            model=tf.train.Checkpoint(**learned), optimizer=model.optimizer
        )
        with _must_fit(latest):
            checkpoint.restore(latest).assert_existing_objects_matched().expect_partial()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Starts a new series, unless `restore` was called before."""
        if self._manager is not None:
            return
        self._open(self.model)
        if self._latest() is not None:
            raise RuntimeError(
                f"There is a checkpoint in {self.directory} already. Received: a `fit` without "
                "`restore`. Call `restore(model)` and skip as many batches as it says, or use "
                "another directory."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Batches are counted by Keras within an epoch, whose means it has just reset."""
        self._in_epoch = 0
        for variable, value in self._means:
            variable.assign(value)
        self._means = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves what is due. Not earlier, so that the end of an epoch is saved as such."""
        if self._unsaved >= self.every:
            self._within_epoch.assign(True)
            self._save()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts; one call stands for several batches with `steps_per_execution`."""
        new = batch + 1 - self._in_epoch
        self._in_epoch = batch + 1
        self._batches.assign_add(new)
        self._unsaved += new

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves, after validation and the callbacks before this one."""
        self._within_epoch.assign(False)
        self._save()

    def _open(self, model: keras.Model) -> tf.train.Checkpoint:
        checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            batches=self._batches,
            within_epoch=self._within_epoch,
        )
        directory = self.directory
        if not is_in_charge(model.distribute_strategy):
            self._scratch = tempfile.TemporaryDirectory()
            directory = pathlib.Path(self._scratch.name)
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(directory), max_to_keep=2, checkpoint_name=_PREFIX
        )
        self._strategy = model.distribute_strategy
        return checkpoint

    def _latest(self) -> str | None:
        """The latest checkpoint, in all processes the same."""
        latest = tf.train.latest_checkpoint(str(self.directory))
        number = -1 if latest is None else int(latest.rpartition("-")[2])
        number = from_chief(self._strategy, number)
        return None if number < 0 else str(self.directory / f"{_PREFIX}-{number}")

    def _save(self) -> None:
        self._manager.save(checkpoint_number=int(self._batches))
        self._unsaved = 0


@contextlib.contextmanager
def _must_fit(path: str) -> Iterator[None]:
    """Says what to do when the checkpoint that is restored inside is of another model."""
    try:
        yield
    except (ValueError, AssertionError) as error:
        raise RuntimeError(
            f"The checkpoint {path} does not fit the model. Received: {error}. Expected: a model "
            "of the same layers. Resume with the options of the first run, or train in another "
            "directory."
        ) from error
