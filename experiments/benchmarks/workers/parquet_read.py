"""A Parquet file -> batches, by pyarrow: the fastest way that Parquet offers.

Columns without compression and dictionaries, lists of a fixed size, row groups in random order.
Pages have checksums, as records of shards do; by default Parquet does not look at them.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from arrays import load_arrays, load_columns
from batches_worker import BatchesWorker
from numpy_blocks import rows_of, shuffled_batches, tensors
from worker_protocol import serve

_GROUP_ROWS = 4096


def write(options: dict, path: pathlib.Path) -> None:
    """Writes the rows of "arrays"."""
    arrays, labels = load_arrays(options["arrays"], load_columns(options["arrays"]))
    columns = {}
    for name, values in {**arrays, "_label": labels}.items():
        values = np.ascontiguousarray(values)
        if values.ndim == 2:
            flat = pa.array(values.reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[name] = pa.array(values)
    beside = path.with_suffix(".tmp")
    pq.write_table(
        pa.table(columns),
        beside,
        row_group_size=_GROUP_ROWS,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    os.replace(beside, path)


def blocks(path: pathlib.Path, *, checked: bool) -> Iterator[dict[str, np.ndarray]]:
    """Row groups in random order, without end; `checked`: whether their checksums are."""
    file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=checked)
    random = np.random.default_rng(0)
    while True:
        groups = random.permutation(file.num_row_groups)
        for start in range(0, len(groups), 8):
            table = file.read_row_groups(groups[start : start + 8].tolist())
            columns = {}
            for name in table.column_names:
                column = table[name].combine_chunks()
                if pa.types.is_fixed_size_list(column.type):
                    length = column.type.list_size
                    columns[name] = column.flatten().to_numpy().reshape(-1, length)
                else:
                    columns[name] = column.to_numpy()
            yield columns


def batches(options: dict) -> Iterator[int]:
    """Rows of each batch, as arrays or as what `fit` of TensorFlow takes; maybe "checked"."""
    path = pathlib.Path(options["arrays"]) / "rows_with_checksums.parquet"
    if not path.exists():
        write(options, path)
    read = blocks(path, checked=options.get("checked", False))
    arrays = shuffled_batches(read, options["batch_size"])
    return tensors(arrays) if options.get("tensors", True) else rows_of(arrays)


if __name__ == "__main__":
    serve(BatchesWorker(batches))
