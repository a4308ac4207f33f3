"""Group numbers of rows."""

from __future__ import annotations

import pyarrow as pa
import pytest
import tensorflow as tf

from clsd_tf.encoding import Encoder, missing_value
from data_pipeline.groups import add_group
from data_pipeline.splits import add_split
from data_pipeline.statistics import learn_tables
from tests.data_pipeline.impressions import COLUMNS, make_engine, make_spec, rows_of, store

TYPES = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("int", 'encoding = "vocabulary"'),
        ("int", 'encoding = "vocabulary", min_count = 2, num_oov = 2, default = 5'),
        ("string", 'encoding = "vocabulary", max_size = 2'),
        ("string", 'encoding = "hash", num_buckets = 3'),
        ("int", 'encoding = "identity", num_values = 4'),
        ("float", 'encoding = "buckets", boundaries = [2.0, 5.1]'),
        ("float", 'encoding = "buckets", quantiles = 3, default = 9.0'),
    ],
)
def test_rows_are_numbered_as_the_encoder_numbers(kind, options, tmp_path):
    numbers = [5, 1, 2, None, 3, 5, 2, -7, 5.1 if kind == "float" else 9]
    values = [str(n) if kind == "string" and n is not None else n for n in numbers]
    engine = make_engine()
    spec = make_spec(columns=f'{COLUMNS}g = {{ role = "group", type = "{kind}", {options} }}')
    rows = [
        {"_row": row, "_day": "2022-05-01", "user_id": 1, "item_id": 1, "g": value}
        for row, value in enumerate(values)
    ]
    table = add_split(store(engine, rows, {"g": TYPES[kind]}), spec)
    encoder = Encoder(spec, learn_tables(engine, table, spec, tmp_path).encoding, tmp_path)
    missing = missing_value(spec.group)
    raw = tf.constant([missing if value is None else value for value in values])
    expected = encoder.encode_group(raw).numpy().tolist()
    received = rows_of(add_group(engine, table, encoder))
    assert [row["_group"] for row in received] == expected
    assert [row["g"] for row in received] == values
    assert len(set(expected)) > 1


def test_a_log_without_groups_has_one(tmp_path):
    spec = make_spec()
    row = {"_row": 0, "_day": "2022-05-01", "user_id": 1, "item_id": 1}
    engine = make_engine()
    table = add_split(store(engine, [row]), spec)
    encoder = Encoder(spec, learn_tables(engine, table, spec, tmp_path).encoding, tmp_path)
    assert rows_of(add_group(engine, table, encoder))[0]["_group"] == 0


def test_close_boundaries_have_names_of_their_own(tmp_path):
    edges = "1234567.0, 1234568.0, 1234569.0, 1234570.0"
    group = f'g = {{ role = "group", type = "int", encoding = "buckets", boundaries = [{edges}] }}'
    spec = make_spec(columns=COLUMNS + group)
    rows = [{"_row": 0, "_day": "2022-05-01", "user_id": 1, "item_id": 1, "g": 3}]
    engine = make_engine()
    learned = learn_tables(engine, add_split(store(engine, rows), spec), spec, tmp_path)
    names = Encoder(spec, learned.encoding, tmp_path).group_names()
    assert names[:2] == ["<1234567", "1234567 to <1234568"]
    assert len(set(names)) == 5
