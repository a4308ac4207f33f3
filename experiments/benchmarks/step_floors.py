"""What a step of training cannot do without: its matrix products, and rows of its tables."""

from __future__ import annotations

import collections
from typing import Literal, NamedTuple, NotRequired, TypedDict

import numpy as np

from experiments.benchmarks.floors import (
    MachineRates,
    dense_floor,
    rows_floor,
    stack_multiplications,
)
from experiments.benchmarks.workers.arrays import BATCHES, load_arrays, load_columns

Kept = Literal["rows", "scalars"]


class Sizes(TypedDict):
    """Widths of a model."""

    dim: int
    units: list[int]
    num_cross_layers: int
    attention_units: NotRequired[list[int]]  # of din


def step_floors(
    backbone: str, arrays: str, batch_size: int, sizes: Sizes, rates: MachineRates, kept: Kept
) -> dict[str, float]:
    """CPU microseconds an example of a step of this project's `backbone`.

    Args:
      backbone: name; `din` reads lists, others do not.
      arrays: directory of the encoded rows.
      batch_size: of the step.
      sizes: of the backbone.
      rates: of the machine.
      kept: what the optimizer keeps beside each row of a table: as much again, or a number.
    """
    read = read_of(arrays, batch_size, lists=backbone == "din")
    width = read.numbers + read.columns * sizes["dim"]
    products = dense_floor(multiplications(backbone, width, sizes, elements=read.elements), rates)
    tables = tables_of(backbone, kept)
    rows = rows_floor(read.rows, rates, rows=tables["rows"], scalars=tables["scalars"])
    return {
        "matrix products at the measured peak": products,
        "matrix products, and rows of tables at the measured rates": products + rows,
    }


class Read(NamedTuple):
    """What an example of a batch reads, on the average.

    Attributes:
      numbers: numeric columns.
      columns: of ids, lists among them.
      elements: of its lists that are no padding.
      rows: of tables, each row of a batch once.
    """

    numbers: int
    columns: int
    elements: float
    rows: float


def read_of(arrays: str, batch_size: int, *, lists: bool) -> Read:
    """What is read of the batches on which workers train.

    Args:
      arrays: directory of the encoded rows.
      batch_size: rows of a batch.
      lists: whether lists are read.
    """
    columns = load_columns(arrays, lists)
    values, labels = load_arrays(arrays, columns, BATCHES * batch_size)
    examples = len(labels) // batch_size * batch_size
    tables: dict[str, list[np.ndarray]] = {}
    elements = 0
    for column in columns:
        if column["kind"] == "categorical":
            ids = np.asarray(values[column["name"]][:examples])
            tables.setdefault(column["table"], []).append(ids.reshape(examples // batch_size, -1))
            if column["length"] is not None:
                elements += int(np.count_nonzero(ids))
    rows = sum(
        len(np.unique(batch))
        for table in tables.values()
        for batch in np.concatenate(table, axis=1)
    )
    numeric = sum(column["kind"] == "numeric" for column in columns)
    return Read(numeric, len(columns) - numeric, elements / examples, rows / examples)


def tables_of(backbone: str, kept: Kept) -> collections.Counter[Kept]:
    """How many tables, the optimizer's included, have rows of vectors, and rows of one number."""
    tables: collections.Counter[Kept] = collections.Counter(["rows", kept])
    if backbone == "deepfm":  # the linear term has a table of its own
        tables["scalars"] += 2
    return tables


def multiplications(backbone: str, width: int, sizes: Sizes, *, elements: float = 0.0) -> float:
    """Multiplications an example on the way forward, of all matrices.

    Args:
      backbone: name.
      width: of all columns side by side.
      sizes: of the backbone.
      elements: of the history that an example has on the average; for `din`.
    """
    units = sizes["units"]
    total: float = stack_multiplications([width, *units, 1])
    if backbone == "dcn_v2":
        total += sizes["num_cross_layers"] * width * width + width
    if backbone == "din":
        # Of an element and the item, the item's part is multiplied once for all elements.
        attention = sizes["attention_units"]
        total += sizes["dim"] * attention[0]
        total += elements * stack_multiplications([sizes["dim"], *attention, 1])
    return total
