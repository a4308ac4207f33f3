"""What workers that read have in common: an endless iterator of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class BatchesWorker:
    """A step takes one batch.

    Args:
      open_batches: options -> endless iterator of the rows in a batch, each yielded when its
        tensors are there.
    """

    def __init__(self, open_batches: Callable[[dict], Iterator[int]]):
        self._open_batches = open_batches

    def prepare(self, options: dict) -> dict:
        """Opens the batches."""
        self._batches = self._open_batches(options)
        return {}

    def run(self, steps: int) -> int:
        """Takes batches."""
        return sum(next(self._batches) for _ in range(steps))
