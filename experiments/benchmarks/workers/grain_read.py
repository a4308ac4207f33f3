"""ArrayRecord -> batches, by grain: blocks of rows as bytes, in random order.

A record a row costs hundreds of times as much; blocks are what its authors advise for small rows.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from arrays import load_arrays, load_columns
from batches_worker import BatchesWorker
from numpy_blocks import shuffled_batches, tensors
from worker_protocol import serve

_BLOCK_ROWS = 1024


def row_type(options: dict) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each column, in the order in which a block holds them."""
    columns = [
        (
            column["name"],
            "<f4" if column["kind"] == "numeric" else "<i4",
            () if column["length"] is None else (column["length"],),
        )
        for column in load_columns(options["arrays"])
    ]
    return [*columns, ("_label", "<f4", ())]


def write(options: dict, path: pathlib.Path) -> None:
    """Writes the rows of "arrays", a record for each whole block."""
    arrays, labels = load_arrays(options["arrays"], load_columns(options["arrays"]))
    columns = {**arrays, "_label": labels}
    beside = path.with_suffix(".tmp")
    writer = ArrayRecordWriter(str(beside), "group_size:1,uncompressed")
    for start in range(0, len(labels) - _BLOCK_ROWS + 1, _BLOCK_ROWS):
        parts = [
            np.asarray(columns[name][start : start + _BLOCK_ROWS], dtype).tobytes()
            for name, dtype, _ in row_type(options)
        ]
        writer.write(b"".join(parts))
    writer.close()
    os.replace(beside, path)


def decoder(options: dict):
    """A function from a record to its columns."""
    layout = []
    start = 0
    for name, dtype, shape in row_type(options):
        count = _BLOCK_ROWS * int(np.prod(shape, dtype=int))
        layout.append((name, dtype, start, count, (_BLOCK_ROWS, *shape)))
        start += count * np.dtype(dtype).itemsize

    def decode(record: bytes) -> dict[str, np.ndarray]:
        return {
            name: np.frombuffer(record, dtype, count, offset).reshape(shape)
            for name, dtype, offset, count, shape in layout
        }

    return decode


def batches(options: dict) -> Iterator[int]:
    """Rows of each batch."""
    path = pathlib.Path(options["arrays"]) / "rows.array_record"
    if not path.exists():
        write(options, path)
    source = grain.sources.ArrayRecordDataSource(str(path))
    dataset = grain.MapDataset.source(source).seed(0).shuffle().repeat(10_000).map(decoder(options))
    arrays = shuffled_batches(iter(dataset.to_iter_dataset()), options["batch_size"])
    return tensors(arrays)


if __name__ == "__main__":
    serve(BatchesWorker(batches))
