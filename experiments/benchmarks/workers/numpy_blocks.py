"""Blocks of rows -> shuffled batches, as one would write it around a reader of Arrow or bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WINDOW_ROWS = 32768


def shuffled_batches(
    blocks: Iterator[dict[str, np.ndarray]], batch_size: int, seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Permutes rows in windows of many blocks, as this project's reader does, and cuts batches."""
    random = np.random.default_rng(seed)
    rest: dict[str, np.ndarray] = {}
    window: list[dict[str, np.ndarray]] = []
    for block in blocks:
        window.append(block)
        if sum(len(next(iter(b.values()))) for b in window) < WINDOW_ROWS:
            continue
        names = list(block)
        columns = {name: np.concatenate([b[name] for b in window]) for name in names}
        order = random.permutation(len(columns[names[0]]))
        columns = {name: values[order] for name, values in columns.items()}
        if rest:
            columns = {n: np.concatenate([rest[n], values]) for n, values in columns.items()}
        rows = len(columns[names[0]])
        for start in range(0, rows - batch_size + 1, batch_size):
            yield {name: values[start : start + batch_size] for name, values in columns.items()}
        done = rows - rows % batch_size
        rest = {name: values[done:] for name, values in columns.items()}
        window = []


def rows_of(batches: Iterator[dict[str, np.ndarray]]) -> Iterator[int]:
    """Rows of each batch."""
    for batch in batches:
        yield len(next(iter(batch.values())))


def tensors(batches: Iterator[dict[str, np.ndarray]]) -> Iterator[int]:
    """The same, once the batch is in tensors of TensorFlow, with ids of 64 bits."""
    import tensorflow as tf

    for batch in batches:
        ready = {
            name: tf.convert_to_tensor(
                values.astype(np.int64) if values.dtype == np.int32 else values
            )
            for name, values in batch.items()
        }
        yield len(next(iter(ready.values())))
