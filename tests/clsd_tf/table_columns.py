"""Columns of several tables, and batches of them, for tests of how their rows are read."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from clsd_tf.features import ModelFeature

# Two dimensions, a vocabulary of two columns, and neighbours that are none in the table.
FEATURES = (
    ModelFeature("user", "categorical", cardinality=5, dim=2, table="user"),
    ModelFeature("item", "categorical", cardinality=4, dim=2, table="item"),
    ModelFeature("history", "categorical", cardinality=4, dim=2, length=3, table="item"),
    ModelFeature("city", "categorical", cardinality=3, dim=7, table="city"),
    ModelFeature("shop", "categorical", cardinality=6, dim=2, table="shop"),
)


def batch(rows: int, length: int = 3) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(rows)
    return {
        feature.name: tf.constant(
            rng.integers(0, feature.cardinality, (rows, length) if feature.is_list else rows)
        )
        for feature in FEATURES
    }


def kinds_of(function: tf.types.experimental.GenericFunction, *args: object) -> list[str]:
    """Types of the operations of a function's graph."""
    return [op.type for op in function.get_concrete_function(*args).graph.get_operations()]
