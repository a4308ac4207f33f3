"""Batches of encoded rows in memory, so that a step of training is all that is measured."""

from __future__ import annotations

import numpy as np
from arrays import BATCHES, load_arrays, load_columns


def load_batches(options: dict) -> tuple[list[dict], dict[str, np.ndarray], np.ndarray]:
    """Columns, arrays and labels of a few batches of "batch_size".

    Every categorical column is given "cardinality" ids, whatever is among the rows. Lists are left
    out unless the options' "lists" ask for them.
    """
    columns = load_columns(options["arrays"], options["lists"])
    for column in columns:
        if column["kind"] == "categorical":
            if column["cardinality"] > options["cardinality"]:
                raise ValueError(
                    f"Column {column['name']} has {column['cardinality']} ids. Expected: at most "
                    f"cardinality={options['cardinality']}."
                )
            column["cardinality"] = options["cardinality"]
    arrays, labels = load_arrays(options["arrays"], columns, BATCHES * options["batch_size"])
    rows = len(labels) // options["batch_size"] * options["batch_size"]
    if not rows:
        raise ValueError(f"{len(labels)} rows do not fill a batch of {options['batch_size']}.")
    arrays = {
        c["name"]: np.asarray(
            arrays[c["name"]][:rows], np.float32 if c["kind"] == "numeric" else np.int64
        )
        for c in columns
    }
    return columns, arrays, np.asarray(labels[:rows], np.float32)


def tensorflow_batches(arrays: dict[str, np.ndarray], labels: np.ndarray, batch_size: int):
    """An endless `tf.data.Dataset` of (features, label) that costs next to nothing."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((arrays, labels)).batch(batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False  # an iterator would wait for its tuner at its end, for seconds
    return dataset.cache().repeat().prefetch(2).with_options(options)


class FitWorker:
    """A Keras model, of either generation; a step is one of `fit`."""

    def build(self, options: dict, columns: list[dict]) -> tuple[object, dict]:
        """Returns the compiled model and what is worth knowing of it."""
        raise NotImplementedError

    def prepare(self, options: dict) -> dict:
        """Builds the model and takes a first step."""
        columns, arrays, labels = load_batches(options)
        self._batch_size = options["batch_size"]
        self._batches = self.adapt(tensorflow_batches(arrays, labels, self._batch_size))
        self.model, info = self.build(options, columns)
        self.run(1)
        sizes = [int(np.prod(weight.shape)) for weight in self.model.trainable_weights]
        return {**info, "parameters": sum(sizes)}

    def adapt(self, batches):
        """Turns batches into what the model takes."""
        return batches

    def run(self, steps: int) -> int:
        """Trains."""
        self.model.fit(self._batches, epochs=1, steps_per_epoch=steps, verbose=0)
        return steps * self._batch_size
