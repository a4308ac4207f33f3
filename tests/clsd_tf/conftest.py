"""Clicks with a known cause, for models to be trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.features import GROUP, USER, ModelFeature

NUM_GROUPS = 3


@dataclasses.dataclass
class Clicks:
    """Features, labels and weights of generated impressions, [rows] each."""

    features: dict[str, np.ndarray]
    labels: np.ndarray
    weights: np.ndarray

    # What a backbone is built from.
    inputs = (
        ModelFeature("user", "categorical", cardinality=60, dim=4, table="user", role="user"),
        ModelFeature("item", "categorical", cardinality=40, dim=4, table="item", role="item"),
        ModelFeature("history", "categorical", cardinality=40, dim=4, length=5, table="item"),
        ModelFeature("price", "numeric"),
    )

    def dataset(self, batch_size: int = 128) -> tf.data.Dataset:
        """Batches of (features, label, weight)."""
        whole = (self.features, self.labels, self.weights)
        return tf.data.Dataset.from_tensor_slices(whole).batch(batch_size)


@pytest.fixture(scope="session")
def make_clicks() -> Callable[[], Clicks]:
    """Makes the impressions of `clicks`, for fixtures that live longer than a test."""
    return _clicks


@pytest.fixture
def clicks() -> Clicks:
    """2000 impressions whose clicks depend on user, item and price."""
    return _clicks()


def _clicks() -> Clicks:
    rng = np.random.default_rng(0)
    rows = 2000
    user, item = rng.integers(1, 60, rows), rng.integers(1, 40, rows)
    price = rng.normal(size=rows).astype(np.float32)
    logit = rng.normal(size=60)[user] + rng.normal(size=40)[item] - price
    features = {
        "user": user,
        "item": item,
        "history": rng.integers(0, 40, (rows, 5)),
        "price": price,
        GROUP: user % NUM_GROUPS,
        USER: user,
    }
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Clicks(features, labels, np.ones(rows, np.float32))
