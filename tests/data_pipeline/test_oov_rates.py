"""Shares of values out of vocabulary are those of the ids that are written."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from clsd_tf.spec import parse_spec
from data_pipeline.oov_rates import OovRates

SPEC = parse_spec("""
name = "oov"
[split]
by = "time"
[columns]
user = { role = "user", type = "int", encoding = "vocabulary" }
item = { role = "item", type = "int", encoding = "vocabulary", num_oov = 3 }
scene = { type = "int", encoding = "identity", num_values = 4 }
seen = { type = "int", shares = "item", max_length = 3 }
device = { type = "int", encoding = "hash", num_buckets = 5 }
price = { type = "float", encoding = "numeric" }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int" }
""")


@pytest.mark.parametrize(
    ("name", "ids", "share"),
    [
        ("user", [0, 1, 2, 3], 1 / 3),  # 0 is missing, 1 unknown
        ("item", [3, 4, 1, 0, 2], 3 / 4),  # 1 to 3 are unknown
        ("scene", [1, 2, 5, 0], 1 / 3),
        ("seen", [[4, 2, 0], [0, 0, 0], [5, 0, 0]], 1 / 3),
    ],
)
def test_golden(name, ids, share):
    oov = OovRates(SPEC)
    oov.add("valid", SPEC.column(name), np.array(ids))
    assert oov.rates()[name] == {"valid": pytest.approx(share)}


def test_splits_without_a_value_and_columns_without_unknown_values_are_left_out():
    oov = OovRates(SPEC)
    oov.add("train", SPEC.column("user"), np.array([0, 0]))
    oov.add("train", SPEC.column("device"), np.array([1, 2]))
    assert oov.rates() == {"user": {}, "item": {}, "scene": {}, "seen": {}}


def test_threads_lose_nothing():
    oov = OovRates(SPEC)
    ids = np.array([1, 2, 2, 2])

    def count():
        for _ in range(200):
            oov.add("train", SPEC.column("user"), ids)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert oov.rates()["user"] == {"train": 0.25}
    assert sum(oov._counts.values()) == 4 * 200 * len(ids)
