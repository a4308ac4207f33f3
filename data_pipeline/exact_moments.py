"""Means and deviations that do not depend on the order in which threads add.

A sum of floats depends on the order of its terms, a sum of integers does not: values are written as
multiples of a power of two, fine enough that nothing is lost that matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import ibis.expr.types as ir

# Values are rounded to this share of the largest one before they are added.
_BITS = 30
# A square has up to 60 bits; sums of its parts stay within 64 bits for 2**43 rows.
_PART_BITS = 20
_PARTS = 3


class Moments(NamedTuple):
    """Of the values that are present.

    Attributes:
      mean: 0 of no values.
      deviation: population standard deviation.
    """

    mean: float
    deviation: float


def moments(rows: ir.Table, values: Mapping[str, ir.FloatingValue]) -> dict[str, Moments]:
    """Mean and deviation of several columns in two passes over the rows.

    Args:
      rows: of a stored table, or cheap to read twice.
      values: name -> finite float64 of `rows`, NULL where there is none.

    Returns:
      The same names.
    """
    if not values:
        return {}
    names = list(values)  # aggregates are called by their places: no name of a log gets in the way
    largest = _row(rows.aggregate(**{f"m{i}": values[n].abs().max() for i, n in enumerate(names)}))
    sums: dict[str, ir.IntegerValue] = {}
    units: dict[str, float] = {}
    for i, name in enumerate(names):
        if not largest[f"m{i}"]:  # no values, or only zeros
            continue
        units[name] = 2.0 ** (math.frexp(largest[f"m{i}"])[1] - _BITS)
        whole = (values[name] / units[name]).round().cast("int64")
        sums |= {f"n{i}": whole.count(), f"s{i}": whole.sum()}
        for part in range(_PARTS):
            bits = ((whole * whole) >> (part * _PART_BITS)) & (2**_PART_BITS - 1)
            sums[f"q{i}_{part}"] = bits.sum()
    found: dict[str, int] = {}
    if sums:
        found = _row(rows.aggregate(**{k: v.cast("int64") for k, v in sums.items()}))
    result = {}
    for i, name in enumerate(names):
        if name not in units:
            result[name] = Moments(0.0, 0.0)
            continue
        count, first = found[f"n{i}"], found[f"s{i}"]
        second = sum(found[f"q{i}_{part}"] << (part * _PART_BITS) for part in range(_PARTS))
        variance = (count * second - first * first) / (count * count)
        result[name] = Moments(first / count * units[name], math.sqrt(variance) * units[name])
    return result


def _row(table: ir.Table) -> dict:
    return table.to_pyarrow().to_pylist()[0]
