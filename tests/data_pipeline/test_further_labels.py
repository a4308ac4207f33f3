"""Labels besides the click travel to the reader, and are read on request alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from clsd_tf.encoding import Encoder, EncodingTables
from clsd_tf.features import LABEL, ROW
from clsd_tf.spec import parse_spec
from data_pipeline.arrow_encoding import encode_table
from data_pipeline.shard_format import shard_features

SPEC = """
name = "shop"
[split]
by = "time"
[columns]
user_id = { role = "user", type = "int", encoding = "hash", num_buckets = 9 }
item_id = { role = "item", type = "int", encoding = "hash", num_buckets = 9 }
click = { role = "label", type = "int" }
like = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(parse_spec(SPEC), EncodingTables(), ".")


def test_the_first_label_is_the_click(encoder):
    assert encoder.spec.label.name == "click"
    assert [column.name for column in encoder.spec.further_labels] == ["like"]
    assert [feature.name for feature in encoder.model_features] == ["user_id", "item_id"]


def test_shards_hold_them_like_signals(encoder):
    names = [feature.name for feature in shard_features(encoder.spec)]
    assert names[-2:] == ["long_view", "like"]
    table = pa.table(
        {
            "user_id": [1, 2],
            "item_id": [3, 4],
            "click": [1, 0],
            "like": [0, 1],
            "long_view": [1, None],
            "time_ms": [5, 6],
            ROW: pa.array([0, 1], pa.int64()),
        }
    )
    arrays = encode_table(table, encoder)
    np.testing.assert_array_equal(arrays[LABEL], [1, 0])
    np.testing.assert_array_equal(arrays["like"], np.array([0, 1], np.float32))
    assert arrays["like"].dtype == np.float32
