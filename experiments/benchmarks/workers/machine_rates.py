"""Rates of the machine: products and rows of tables by TensorFlow, copies by NumPy."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from worker_protocol import cpu_seconds, serve

_BYTES = 2**28
_BATCHES = 8


class MachineRates:
    """Products in every step; once a call a copy, and rows of tables that are read and written.

    Options: products are of "rows" x "inner" and "inner" x "inner". Tables have "vocabulary" rows
    for each of "columns", of "dim" numbers and of one; batches of "rows" read them.
    """

    def prepare(self, options: dict) -> dict:
        """Fills the operands."""
        self._shape = options["rows"], options["inner"]
        self._left = tf.random.normal(self._shape)
        self._right = tf.random.normal([options["inner"]] * 2)
        self._source = np.ones(_BYTES, np.uint8)
        self._target = np.empty_like(self._source)
        columns, vocabulary = options["columns"], options["vocabulary"]
        self._places = [
            tf.constant(distinct_rows(columns, vocabulary, options["rows"], seed))
            for seed in range(_BATCHES)
        ]
        self._passes = {
            "rows": _Pass(columns * vocabulary, options["dim"]),
            "scalars": _Pass(columns * vocabulary, 1),
        }
        return {"devices": len(tf.config.list_physical_devices())}

    def run(self, steps: int) -> tuple[int, dict[str, float]]:
        """Measures all rates."""
        start = cpu_seconds()
        for _ in range(steps):
            product = tf.matmul(self._left, self._right)
        product.numpy()
        middle = cpu_seconds()
        np.copyto(self._target, self._source)
        copied = _BYTES / (cpu_seconds() - middle)
        rows, inner = self._shape
        flops = steps * 2 * float(rows * inner * inner) / (middle - start)
        rates = {name: self._rate(one) for name, one in self._passes.items()}
        return steps, {"flops": flops, "copied_bytes": copied, **rates}

    def _rate(self, one: _Pass) -> float:
        """Rows of a table that are read and written in a second of processor time."""
        one(self._places[0]).numpy()  # traces
        start = cpu_seconds()
        for places in self._places:
            done = one(places)
        done.numpy()
        return sum(map(len, self._places)) / (cpu_seconds() - start)


class _Pass(tf.Module):
    """Reads rows of a table, each once, and writes them: by `gather_nd` and `scatter_update`.

    They wait for memory; of a table with one number in each row, the caches hold much.
    """

    def __init__(self, rows: int, dim: int):
        super().__init__()
        self._table = tf.Variable(tf.zeros([rows, dim]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def __call__(self, places: tf.Tensor) -> tf.Tensor:
        values = tf.gather_nd(self._table, places[:, tf.newaxis])
        self._table.scatter_update(tf.IndexedSlices(values, places))
        return values[0, 0]


def distinct_rows(columns: int, vocabulary: int, batch_size: int, seed: int) -> np.ndarray:
    """Rows that a batch reads, each once, in their order; ids are drawn as those of the log are."""
    random = np.random.default_rng(seed).random((columns, batch_size))
    ids = (vocabulary * random**3).astype(np.int64)
    return np.unique(ids + vocabulary * np.arange(columns)[:, np.newaxis])


if __name__ == "__main__":
    serve(MachineRates())
