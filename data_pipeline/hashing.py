"""Chance by hash: draws that depend on a row alone, the same on every engine and at any speed.

An md5 is compared as text. Its 32 hexadecimal digits are uniform, and text of equal length is
ordered as the number it writes.
"""

from __future__ import annotations

import fractions

import ibis
import ibis.expr.types as ir

_DIGITS = 32


@ibis.udf.scalar.builtin
def md5(text: str) -> str:
    """The engine's own md5: 32 lower-case hexadecimal digits."""


def hashed(purpose: str, seed: int, values: ir.Value) -> ir.StringValue:
    """A uniform text for each value; another `purpose` or `seed` gives an independent one."""
    return md5(ibis.literal(f"{purpose}/{seed}/") + values.cast("string"))


def threshold(probability: float) -> str:
    """The text that a uniform hash stays below with `probability`, in [0, 1]."""
    scaled = int(fractions.Fraction(probability) * 16**_DIGITS)
    # "g" comes after every hexadecimal digit.
    return "g" if scaled >= 16**_DIGITS else f"{scaled:0{_DIGITS}x}"
