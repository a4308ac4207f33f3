"""Rates of the machine: products of matrices by TensorFlow, copies by NumPy."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from worker_protocol import cpu_seconds, serve

_BYTES = 2**28


class MachineRates:
    """A step is a product of the options' "rows" x "inner" and "inner" x "columns", and a copy."""

    def prepare(self, options: dict) -> dict:
        """Fills the operands."""
        self._shape = [options["rows"], options["inner"], options["columns"]]
        rows, inner, columns = self._shape
        self._left = tf.random.normal([rows, inner])
        self._right = tf.random.normal([inner, columns])
        self._source = np.ones(_BYTES, np.uint8)
        self._target = np.empty_like(self._source)
        return {"devices": len(tf.config.list_physical_devices())}

    def run(self, steps: int) -> tuple[int, dict[str, float]]:
        """Measures both rates."""
        start = cpu_seconds()
        for _ in range(steps):
            product = tf.matmul(self._left, self._right)
        product.numpy()
        middle = cpu_seconds()
        np.copyto(self._target, self._source)
        copied = _BYTES / (cpu_seconds() - middle)
        flops = steps * 2 * float(np.prod(self._shape)) / (middle - start)
        return steps, {"flops": flops, "copied_bytes": copied}


if __name__ == "__main__":
    serve(MachineRates())
