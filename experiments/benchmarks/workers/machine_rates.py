"""Rates of the machine: products and rows of tables by TensorFlow, copies by NumPy."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from worker_protocol import cpu_seconds, serve

_BYTES = 2**28
_READS = 8


class MachineRates:
    """A step is a product, a copy, and rows of tables that are read and written.

    Options: the product is of "rows" x "inner" and "inner" x "columns"; a table has "table_rows" of
    "dim" numbers, another one number in each, and "read_rows" of them are read at a time.
    """

    def prepare(self, options: dict) -> dict:
        """Fills the operands."""
        self._shape = [options["rows"], options["inner"], options["columns"]]
        rows, inner, columns = self._shape
        self._left = tf.random.normal([rows, inner])
        self._right = tf.random.normal([inner, columns])
        self._source = np.ones(_BYTES, np.uint8)
        self._target = np.empty_like(self._source)
        random = np.random.default_rng(0)
        size = options["table_rows"], options["read_rows"]
        self._places = [tf.constant(random.choice(*size, replace=False)) for _ in range(_READS)]
        self._passes = {
            "rows": _Pass(options["table_rows"], options["dim"]),
            "scalars": _Pass(options["table_rows"], 1),
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
        flops = steps * 2 * float(np.prod(self._shape)) / (middle - start)
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
    """Reads rows of a table, each once, and writes them: by the fastest operations that there are.

    One of them waits for memory; of a table of one number in each row, the cache holds much.
    """

    def __init__(self, rows: int, dim: int):
        super().__init__()
        self._table = tf.Variable(tf.zeros([rows, dim]))

    @tf.function
    def __call__(self, places: tf.Tensor) -> tf.Tensor:
        values = tf.gather_nd(self._table, places[:, tf.newaxis])
        self._table.scatter_update(tf.IndexedSlices(values, places))
        return values[0, 0]


if __name__ == "__main__":
    serve(MachineRates())
