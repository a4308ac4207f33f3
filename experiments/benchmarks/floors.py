"""What a stage cannot cost less than: bytes that must move and sums that must be done.

The machine's rates are measured, per second of processor time as everything else is.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

DIM = 16  # of the rows whose rate is measured


@dataclasses.dataclass(frozen=True)
class MachineRates:
    """What the machine does in a second of processor time.

    Attributes:
      flops: of the product of two float32 matrices.
      copied_bytes: of a copy between buffers larger than the caches.
      rows: of `DIM` numbers, of an embedding table, that are read and written, each once.
      scalars: the same of a table with one number in each row.
    """

    flops: float
    copied_bytes: float
    rows: float
    scalars: float


def read_floor(row_bytes: int, rates: MachineRates) -> float:
    """CPU microseconds an example: two copies, file to memory and memory into shuffled order."""
    return 1e6 * 2 * row_bytes / rates.copied_bytes


def dense_floor(multiplications: float, rates: MachineRates) -> float:
    """CPU microseconds an example of the matrix products of a training step.

    A weight is multiplied once on the way forward and twice on the way back, for the gradients of
    weight and input; each multiplication comes with an addition.
    """
    return 1e6 * 6 * multiplications / rates.flops


def rows_floor(read: float, rates: MachineRates, *, rows: int, scalars: int) -> float:
    """CPU microseconds an example of the rows that a training step must read and write.

    Args:
      read: different rows that an example reads of a table, on the average of a batch.
      rates: of the machine.
      rows: tables of vectors, what the optimizer keeps beside them included.
      scalars: tables with one number in each row, likewise.
    """
    return 1e6 * read * (rows / rates.rows + scalars / rates.scalars)


def stack_multiplications(widths: Sequence[int]) -> int:
    """Multiplications an example of dense layers: widths of the input and of each layer."""
    return sum(a * b for a, b in itertools.pairwise(widths))
