"""Made-up raw rows in the form of a log: for warm-up requests, examples of requests, and tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from clsd_tf.encoding import Encoder
from clsd_tf.entities import described_entity
from clsd_tf.features import ColumnSpec
from clsd_tf.requests import Row

_MISSING, _UNKNOWN = 0.1, 0.1  # shares of values
_FREQUENT = 1000  # values of a vocabulary that are drawn


def sample_rows(encoder: Encoder, count: int, seed: int = 0) -> list[Row]:
    """Draws rows whose values the encoding knows; a tenth are unknown, a tenth are missing.

    Args:
      encoder: whose vocabularies, boundaries and moments say what values there are.
      count: of rows.
      seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    columns = [*encoder.spec.model_columns, *encoder.spec.with_role("group")]
    tokens = {column.name: _tokens(encoder, column) for column in columns}
    rows: list[Row] = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for column in columns:
            if column.is_list:
                length = int(rng.integers(column.max_length + 1))
                row[column.name] = [
                    _value(encoder, column, tokens[column.name], rng) for _ in range(length)
                ]
            elif rng.random() >= _MISSING:
                row[column.name] = _value(encoder, column, tokens[column.name], rng)
        rows.append(row)
    return rows


def sample_request(encoder: Encoder, count: int, seed: int = 0) -> tuple[Row, list[Row]]:
    """A row of what is the same for all candidates, and rows of so many candidates."""
    spec = encoder.spec
    once, *candidates = sample_rows(encoder, 1 + count, seed)
    of_item = {c.name for c in spec.model_columns if described_entity(spec, c) == "item"}
    return (
        {name: value for name, value in once.items() if name not in of_item},
        [{n: value for n, value in row.items() if n in of_item} for row in candidates],
    )


def _tokens(encoder: Encoder, column: ColumnSpec) -> list[str | int]:
    owner = encoder.spec.owner(column)
    if owner.encoding != "vocabulary":
        return []
    return encoder.frequent_values(owner, _FREQUENT)


def _value(
    encoder: Encoder, column: ColumnSpec, tokens: list[str | int], rng: np.random.Generator
) -> str | int | float:
    owner = encoder.spec.owner(column)
    unknown = rng.random() < _UNKNOWN
    if owner.encoding == "vocabulary" and tokens and not unknown:
        return tokens[int(rng.integers(len(tokens)))]
    if owner.encoding == "identity":
        return int(rng.integers(owner.num_values))
    if owner.encoding in ("buckets", "numeric"):
        number = _number(encoder, owner, rng)
        return round(number) if owner.type == "int" else float(np.float32(number))
    drawn = int(rng.integers(10**6, 10**9))
    return f"{owner.name}_{drawn}" if owner.type == "string" else drawn


def _number(encoder: Encoder, column: ColumnSpec, rng: np.random.Generator) -> float:
    if column.encoding == "buckets":
        edges = encoder.boundaries(column) or [0.0]
        return float(rng.uniform(edges[0] - 1.0, edges[-1] + 1.0))
    mean, deviation = encoder.tables.moments.get(column.name, (0.0, 1.0))
    number = rng.normal(mean, deviation)
    if column.scaling in ("log", "log_standard"):
        number = np.sign(number) * np.expm1(min(abs(number), 20.0))
    return float(number)
