"""The schema of raw columns, and that requests are encoded as rows were."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from clsd_tf.parsing import parsing_spec
from data_pipeline.reader import make_dataset
from data_pipeline.schema import raw_schema, write_schema

SERVED = {
    "user_id", "item_id", "city", "scene", "device", "age", "price", "tags", "click_history",
}  # fmt: skip
NOT_SERVED = {"activity", "propensity", "click", "long_view", "time_ms"}


def raw_example(row: dict, columns: set[str]) -> bytes:
    """The row as a client would send it: what is missing is left out."""
    example = tf.train.Example()
    for name in columns:
        values = row[name] if isinstance(row[name], list) else [row[name]]
        values = [value for value in values if value is not None]
        if not values:
            continue
        feature = example.features.feature[name]
        if isinstance(values[0], str):
            feature.bytes_list.value.extend(value.encode() for value in values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return example.SerializeToString()


@pytest.fixture
def features(generate):
    return {feature.name: feature for feature in raw_schema(generate(0).spec).feature}


def test_environments(generate, features):
    schema = raw_schema(generate(0).spec)
    assert list(schema.default_environment) == ["TRAINING", "SERVING"]
    hidden = {name for name, f in features.items() if "SERVING" in f.not_in_environment}
    assert (set(features) - hidden, hidden) == (SERVED, NOT_SERVED)


def test_types_and_domains(features):
    assert features["city"].type == schema_pb2.BYTES
    assert features["price"].type == schema_pb2.FLOAT
    assert features["user_id"].type == schema_pb2.INT
    assert (features["scene"].int_domain.min, features["scene"].int_domain.max) == (0, 3)
    assert (features["click"].int_domain.min, features["click"].int_domain.max) == (0, 1)
    assert features["device"].int_domain.is_categorical
    assert not features["time_ms"].HasField("int_domain")


def test_presence_and_shape(features):
    required = {name for name, f in features.items() if f.presence.min_fraction == 1}
    assert required == {"user_id", "item_id", "click", "time_ms"}
    assert {name for name, f in features.items() if f.HasField("shape")} == required
    for name in ("tags", "click_history"):
        assert not features[name].value_count.HasField("max")
    assert features["age"].value_count.min == features["age"].value_count.max == 1


def test_file_round_trip(generate, tmp_path):
    spec = generate(0).spec
    text = write_schema(spec, tmp_path).read_text(encoding="utf-8")
    assert text_format.Parse(text, schema_pb2.Schema()) == raw_schema(spec)


@pytest.mark.parametrize("layout", ["columnar", "row"])
def test_a_request_is_encoded_as_the_row_was(generate, layout):
    log = generate(150)
    for row in log.rows:  # a request has no way to say "null" inside a list
        row["tags"] = [tag for tag in row["tags"] or [] if tag is not None]
    dataset = make_dataset(log.write("data", layout=layout), "train", 150, shuffle=False)
    stored, _, _ = next(iter(dataset))
    serialized = tf.constant([raw_example(row, SERVED) for row in log.rows])
    config = parsing_spec(log.spec, serving=True)
    assert set(config) == SERVED

    @tf.function  # as the export compiles it
    def encode(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return log.encoder(tf.io.parse_example(serialized, config))

    served = encode(serialized)
    assert set(served) == SERVED
    for name, values in served.items():
        assert values.dtype == stored[name].dtype
        np.testing.assert_array_equal(values, stored[name], name)


def test_raw_rows_parse_with_label_and_signals(generate):
    log = generate(30)
    columns = SERVED | NOT_SERVED
    serialized = [raw_example(row, columns) for row in log.rows]
    parsed = tf.io.parse_example(serialized, parsing_spec(log.spec, serving=False))
    assert set(parsed) == columns
    np.testing.assert_array_equal(parsed["click"], [row["click"] for row in log.rows])
    signal = [np.nan if row["long_view"] is None else row["long_view"] for row in log.rows]
    np.testing.assert_array_equal(parsed["long_view"], signal)


def test_a_label_has_to_be_there(generate):
    log = generate(1)
    serialized = [raw_example(log.rows[0], SERVED)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="click"):
        tf.io.parse_example(serialized, parsing_spec(log.spec, serving=False))
