"""A teacher that follows its student: an exponential moving average of the student's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import Features, inputs_of
from clsd_tf.distributed import all_gather, update_together
from clsd_tf.embeddings import embeddings_of
from clsd_tf.table_rows import only_reading, read_rows, reread_rows


@keras.saving.register_keras_serializable(package="clsd_tf")
class EMATeacher(keras.layers.Layer):
    """An average of the student's weights over the steps so far, in one single `fit`.

        teacher <- d_t * teacher + (1 - d_t) * student,   d_t = min(decay, (1 + t) / (10 + t))

    The first update copies the student; the warm-up of the decay lets early weights be forgotten
    soon. `ClickConfidenceModel` updates and applies the teacher before it trains on a batch, so
    that in the first epoch every batch is scored by weights that have not seen it; what layers
    gather while they are applied, as batch normalization does, has seen its features. In the first
    `warmup_steps` steps the student learns from clicks as they are.

    Source: arXiv 1703.01780 (mean teacher), section 2, for the average; its use as a teacher of
    click confidence is this project's reading.

    Tables of `FusedEmbedding` are averaged lazily, at the cost of the batch and not of the table. A
    row that no batch contained has not changed in the student since the last one that did, and k
    averages with a constant s are one with the product of their decays:

        e <- s + D * (e - s),   D = product of the decays since the row was averaged last

    So each row that the teacher reads is first brought up to date, and what it reads is the dense
    average, exactly, under optimizers that leave other rows alone (`RowwiseAdagrad`); where they do
    not (Adam), rows between two readings are averaged as if they had taken their last step at once.
    Other variables, tables of layers of one's own among them, are averaged whole in every step.
    Under `tf.distribute` every replica holds the same teacher, of the rows that any replica reads.

    Args:
      backbone: of the same architecture as the student's, but an object of its own.
      decay: of the average, in (0, 1). Defaults to 0.999, a memory of about 1000 steps.
      warmup_steps: steps before the student is taught. Defaults to 100.

    Input and output: those of the backbone.

    >>> student = ClickConfidenceModel(backbone(), EMATeacher(backbone()), confidence="global")
    """

    def __init__(
        self,
        backbone: keras.layers.Layer,
        decay: float = 0.999,
        warmup_steps: int = 100,
        **kwargs,
    ):
        """See the class."""
        super().__init__(**kwargs)
        if not 0.0 < decay < 1.0 or warmup_steps < 0:
            raise ValueError(
                "`decay` must be in (0, 1) and `warmup_steps` >= 0. Received: "
                f"decay={decay}, warmup_steps={warmup_steps}."
            )
        self.backbone = backbone
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.step = self._add_state("step", (), tf.int64)
        # Logarithm of the product of all decays so far; float64, because it grows without end and
        # small differences of it count.
        self._log_decay = self._add_state("log_decay", (), tf.float64)
        # For each table, `log_decay` as it was when each row was averaged last.
        self._row_log_decays = [
            self._add_state("row_log_decay", (rows,), tf.float64)
            for embedding in embeddings_of(backbone)
            for rows in embedding.table_rows
        ]

    @property
    def is_warm(self) -> tf.Tensor:
        """Whether the student is to be taught: bool scalar."""
        return self.step > self.warmup_steps

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Applies the average; rows of tables are as old as `follow` or `catch_up` left them."""
        return self.backbone(inputs, training=training)

    def follow(self, student: keras.layers.Layer, features: Features) -> None:
        """Takes one step of the average, for all that `call` reads of `features`.

        Args:
          student: the backbone to follow.
          features: of the batch that is scored next; under `tf.distribute` of the replica's part.

        Raises:
          ValueError: the student has other weights.
        """
        inputs = inputs_of(self.backbone, features)
        for layer in (self.backbone, student):
            if not layer.built:
                layer(inputs)  # creates them
        _check_alike(self.backbone, student)
        state = [self.step, self._log_decay, *self._row_log_decays]
        weights = (self.backbone.weights, student.weights)
        read = [rows for e in embeddings_of(self.backbone) for rows in e.rows_read(inputs)]
        # Replicas stay alike: each averages the rows that any of them reads.
        update_together(self._follow, state, *weights, [all_gather(rows) for rows in read])

    def catch_up(self, student: keras.layers.Layer) -> None:
        """Averages every row of every table up to now, so that `call` may read any of them.

        Args:
          student: the backbone that is followed. Not inside a train step.
        """
        for place, log_decays in zip(self._tables(), self._row_log_decays, strict=True):
            mine, theirs = self.backbone.weights[place], student.weights[place]
            kept = tf.exp(self._log_decay - log_decays)
            kept = tf.cast(kept, mine.dtype)[:, tf.newaxis]
            mine.assign(theirs + kept * (mine - theirs))
            log_decays.assign(tf.fill(log_decays.shape, tf.convert_to_tensor(self._log_decay)))

    def go_on_from(
        self,
        old: EMATeacher,
        student: keras.layers.Layer,
        rows: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Takes over the place in time of a teacher whose tables had fewer rows.

        The weights of its backbone are taken over before; rows that it did not have begin as the
        student's do.

        Args:
          old: the other teacher.
          student: that is followed.
          rows: for each table, rows of the old one and where they are now.
        """
        self.step.assign(old.step)
        self._log_decay.assign(old._log_decay)
        for place, before, log_decays, (of_old, of_new) in zip(
            self._tables(), old._row_log_decays, self._row_log_decays, rows, strict=True
        ):
            mine, theirs = self.backbone.weights[place], student.weights[place]
            fresh = np.setdiff1d(np.arange(mine.shape[0]), of_new)
            mine.scatter_update(tf.IndexedSlices(tf.gather(theirs, fresh), fresh))
            decays = np.full(mine.shape[0], float(old._log_decay))  # fresh rows are of this step
            decays[of_new] = before.numpy()[of_old]
            log_decays.assign(decays)

    def _follow(
        self,
        state: Sequence[tf.Variable],
        mine: Sequence[tf.Variable],
        theirs: Sequence[tf.Variable],
        read: Sequence[tf.Tensor],
    ) -> None:
        """`follow` on one replica's copies of the weights."""
        step, log_decay, *row_log_decays = state
        tables = self._tables()
        pairs = list(enumerate(zip(mine, theirs, strict=True)))

        def copy() -> None:
            for _, (weight, target) in pairs:
                weight.assign(target)

        def average() -> None:
            t = tf.cast(step, tf.float64)
            decay = tf.minimum(tf.constant(self.decay, tf.float64), (1.0 + t) / (10.0 + t))
            log_decay.assign_add(tf.math.log(decay))
            for place, (weight, target) in pairs:
                if place not in tables and weight.dtype.is_floating:
                    weight.assign_add(tf.cast(1.0 - decay, weight.dtype) * (target - weight))

        with only_reading([theirs[place] for place in tables]):
            tf.cond(step == 0, copy, average)
        # Not within the condition, where the rest of the step could not take what is read and
        # written. In the first step this changes nothing: the product of no decays is 1.
        for place, rows, log_decays in zip(tables, read, row_log_decays, strict=True):
            _average_rows(mine[place], theirs[place], log_decay, log_decays, rows)
        step.assign_add(1)

    def _tables(self) -> list[int]:
        """Places of the tables of embeddings among the weights."""
        places = {weight.ref(): place for place, weight in enumerate(self.backbone.weights)}
        embeddings = embeddings_of(self.backbone)
        return [places[table.ref()] for e in embeddings for table in e.embedding_variables]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "decay": self.decay,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config: dict) -> EMATeacher:
        """See `keras.layers.Layer`."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})

    def _add_state(self, name: str, shape: tuple[int, ...], dtype: tf.DType) -> tf.Variable:
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
        )


def _average_rows(
    mine: tf.Variable,
    theirs: tf.Variable,
    log_decay: tf.Variable,
    row_log_decays: tf.Variable,
    rows: tf.Tensor,
) -> None:
    """Averages the given rows of a table, once for all steps since they were averaged last.

    Where a row is there more than once, each time the same values are written.
    """
    kept = tf.exp(log_decay - read_rows(row_log_decays, rows))
    kept = tf.cast(kept, mine.dtype)[:, tf.newaxis]
    target = reread_rows(theirs, rows)
    averaged = target + kept * (read_rows(mine, rows) - target)
    mine.scatter_update(tf.IndexedSlices(averaged, rows))
    now = tf.fill(tf.shape(rows), tf.convert_to_tensor(log_decay))
    row_log_decays.scatter_update(tf.IndexedSlices(now, rows))


def _check_alike(teacher: keras.layers.Layer, student: keras.layers.Layer) -> None:
    mine, theirs = ([w.shape.as_list() for w in layer.weights] for layer in (teacher, student))
    if mine != theirs:
        raise ValueError(
            "An EMA teacher must be of the same architecture as its student. Received: weights of "
            f"shapes {mine} and {theirs}. Build both by the same function."
        )
