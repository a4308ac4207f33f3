"""The encoder against plain Python, its tables on disk, and its export."""

from __future__ import annotations

import math
import pathlib
import re
import struct

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.encoding import INT_MISSING, Encoder
from clsd_tf.encoding_tables import EncodingTables, copy_encoding, vocabulary_path
from clsd_tf.features import ColumnSpec

COMMON = """
name = "log"

[split]
day_column = "date"
valid_from = 8
test_from = 9

[columns]
user = { role = "user", type = "int", encoding = "vocabulary", num_oov = 3 }
item = { role = "item", type = "int", encoding = "vocabulary", dim = 8 }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int" }
date = { role = "ignore", type = "int" }
"""
VOCABULARIES = {"user": ["7", "-5", "12"], "item": ["100", "300", "200"]}
MOMENTS = {"watched": (2.0, 0.5), "flat": (3.0, 0.0)}


def make_directory(
    directory: pathlib.Path,
    columns: str = "",
    vocabularies: dict[str, list[str]] | None = None,
    boundaries: dict[str, list[float]] | None = None,
    common: str = COMMON,
) -> pathlib.Path:
    """Writes what `prepare` leaves of the encoding: spec, tables and vocabularies."""
    vocabularies = VOCABULARIES | (vocabularies or {})
    (directory / "vocab").mkdir(parents=True)
    (directory / "spec.toml").write_text(common + columns, encoding="utf-8")
    for name, tokens in vocabularies.items():
        text = "".join(f"{token}\n" for token in tokens)
        vocabulary_path(directory, name).write_text(text, encoding="utf-8")
    sizes = {name: len(tokens) for name, tokens in vocabularies.items()}
    EncodingTables(sizes, boundaries or {}, MOMENTS).save(directory)
    return directory


@pytest.fixture
def load(tmp_path):
    """Returns an encoder of the common columns and those given as TOML."""
    return lambda *args, **kwargs: Encoder.load(make_directory(tmp_path / "data", *args, **kwargs))


def float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def reference(
    encoder: Encoder, column: ColumnSpec, value: int | float | str, tokens: list[str]
) -> int | float:
    """One raw value, encoded by plain Python; only the hash function is TensorFlow's."""

    def is_missing(value):
        return value in ("", INT_MISSING) or (isinstance(value, float) and math.isnan(value))

    def bucket(count):
        return int(tf.strings.to_hash_bucket_fast(str(value), count))

    if is_missing(value) and column.default is not None:
        value = column.default
    if is_missing(value):
        return 0
    if column.encoding == "vocabulary":
        if str(value) in tokens:
            return 1 + column.num_oov + tokens.index(str(value))
        return 1 + bucket(column.num_oov)
    if column.encoding == "hash":
        return 1 + bucket(column.num_buckets)
    if column.encoding == "identity":
        return 2 + value if 0 <= value < column.num_values else 1
    if column.encoding == "buckets":
        edges = column.boundaries or encoder.tables.boundaries[column.name]
        return 1 + sum(float32(value) >= float32(edge) for edge in edges)
    if column.scaling in ("log", "log_standard"):
        value = math.copysign(math.log1p(abs(value)), value)
    if column.scaling in ("standard", "log_standard"):
        mean, deviation = encoder.tables.moments[column.name]
        value = (value - mean) / (deviation or 1.0)
    return value


INTS = [7, -5, 12, 0, 1, 2, -1, 29, 2**62, -(2**62), INT_MISSING]
FLOATS = [0.0, 0.1, 0.3, -0.3, 1.5, 2.0, 1e9, -1e9, math.nan]
STRINGS = ["7", "29", "29.0", "a b", "é", "-5", ""]


@pytest.mark.parametrize(
    ("options", "values", "tokens"),
    [
        ('type = "int", encoding = "vocabulary"', INTS, ["7", "-5", "12"]),
        ('type = "int", encoding = "vocabulary", num_oov = 4', INTS, ["7", "-5"]),
        ('type = "int", encoding = "vocabulary", num_oov = 4', INTS, []),
        ('type = "int", encoding = "vocabulary", default = -5', INTS, ["7", "-5", "12"]),
        ('type = "int", encoding = "vocabulary", default = 3', INTS, ["7"]),
        ('type = "string", encoding = "vocabulary"', STRINGS, ["29", "a b", "é"]),
        ('type = "string", encoding = "vocabulary", num_oov = 5', STRINGS, ["29"]),
        ('type = "string", encoding = "vocabulary"', STRINGS, []),
        ('type = "string", encoding = "vocabulary", default = "é"', STRINGS, ["é"]),
        ('type = "string", encoding = "hash", num_buckets = 1000', STRINGS, []),
        ('type = "int", encoding = "hash", num_buckets = 1000', INTS, []),
        ('type = "int", encoding = "hash", num_buckets = 1000, default = 29', INTS, []),
        ('type = "int", encoding = "identity", num_values = 3', INTS, []),
        ('type = "int", encoding = "identity", num_values = 3, default = 2', INTS, []),
        ('type = "float", encoding = "buckets", boundaries = [0.1, 0.3, 2]', FLOATS, []),
        ('type = "float", encoding = "buckets", quantiles = 4, default = 1.7', FLOATS, []),
        ('type = "int", encoding = "buckets", boundaries = [-1, 0, 7]', INTS, []),
        ('type = "float", encoding = "numeric"', FLOATS, []),
        ('type = "float", encoding = "numeric", default = 0.3', FLOATS, []),
        ('type = "float", encoding = "numeric", scaling = "log"', FLOATS, []),
        ('type = "int", encoding = "numeric", scaling = "log"', INTS, []),
    ],
)
def test_equals_the_reference(load, options, values, tokens):
    encoder = load(f"x = {{ {options} }}", {"x": tokens}, {"x": [0.3, 1.5]})
    column = encoder.spec.column("x")
    received = encoder.encode_values(column, tf.constant(values))
    expected = [reference(encoder, column, value, tokens) for value in values]
    if column.is_numeric:
        assert received.dtype == tf.float32
        np.testing.assert_allclose(received, expected, rtol=1e-6)
    else:
        assert received.dtype == tf.int64
        assert received.numpy().tolist() == expected
        assert max(expected) < encoder.cardinality(column)


@pytest.mark.parametrize("name", ["watched", "flat"])
@pytest.mark.parametrize("scaling", ["standard", "log_standard"])
def test_moments_scale(load, name, scaling):
    options = f'type = "float", encoding = "numeric", scaling = "{scaling}"'
    encoder = load(f"{name} = {{ {options} }}")
    column = encoder.spec.column(name)
    received = encoder.encode_values(column, tf.constant(FLOATS))
    expected = [reference(encoder, column, value, []) for value in FLOATS]
    np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_ids_by_hand(load):
    # user: 0 missing, 1-3 out of vocabulary, then 7, -5, 12. item: one id out of vocabulary.
    encoder = load()
    users = encoder.encode_values(encoder.spec.user, tf.constant([12, INT_MISSING, 7, -5]))
    assert users.numpy().tolist() == [6, 0, 4, 5]
    items = encoder.encode_values(encoder.spec.item, tf.constant([200, 999, INT_MISSING, 100]))
    assert items.numpy().tolist() == [4, 1, 0, 2]
    assert encoder.cardinality(encoder.spec.user) == 7
    assert encoder.cardinality(encoder.spec.item) == 5


def test_unknown_values_spread_over_the_oov_ids(load):
    encoder = load()
    ids = encoder.encode_values(encoder.spec.user, tf.range(1000, 1300, dtype=tf.int64)).numpy()
    shares = np.bincount(ids) / 300
    assert len(shares) == 4
    assert shares[0] == 0.0
    assert shares[1:].min() > 0.2


def test_ints_and_their_strings_hash_alike(load):
    encoder = load(
        'a = { type = "int", encoding = "hash", num_buckets = 10000 }\n'
        'b = { type = "string", encoding = "hash", num_buckets = 10000 }\n'
    )
    a = encoder.encode_values(encoder.spec.column("a"), tf.constant([29, -5]))
    b = encoder.encode_values(encoder.spec.column("b"), tf.constant(["29", "-5", "29.0"]))
    assert a.numpy().tolist() == b.numpy().tolist()[:2]
    assert b[2] != b[0]


def test_bucket_edges_are_compared_in_float32(load):
    # 0.1 is more in float32 than in float64; an edge and its own value must not fall apart.
    encoder = load(
        'x = { type = "float", encoding = "buckets", boundaries = [0.1, 16777216] }\n'
        'n = { type = "int", encoding = "buckets", boundaries = [0, 16777216] }\n'
    )
    below = np.nextafter(np.float32(0.1), np.float32(0))
    values = tf.constant([below, np.float32(0.1), 16777215.0, 16777216.0])
    ids = encoder.encode_values(encoder.spec.column("x"), values)
    assert ids.numpy().tolist() == [1, 2, 2, 3]
    ids = encoder.encode_values(encoder.spec.column("n"), tf.constant([-1, 0, 16777215, 16777217]))
    assert ids.numpy().tolist() == [1, 2, 2, 3]


def test_any_shape_and_an_empty_batch(load):
    encoder = load('x = { type = "float", encoding = "buckets", boundaries = [1.0] }')
    for column in (encoder.spec.user, encoder.spec.column("x")):
        dtype = tf.int64 if column.type == "int" else tf.float32
        flat = tf.constant([7, 0, 12, -5, 1, 2], dtype)
        ids = encoder.encode_values(column, flat)
        shaped = encoder.encode_values(column, tf.reshape(flat, [2, 1, 3]))
        np.testing.assert_array_equal(shaped, tf.reshape(ids, [2, 1, 3]))
        assert encoder.encode_values(column, tf.constant([], dtype)).shape == (0,)


LISTS = """
recent = { type = "int", shares = "item", max_length = 3 }
oldest = { type = "int", shares = "item", max_length = 3, keep = "first", default = 300 }
tags = { type = "string", encoding = "hash", num_buckets = 50, max_length = 2 }
"""


@pytest.fixture
def lists(load):
    """An encoder with lists, and raw rows for it."""
    items = tf.ragged.constant(
        [[100, 200, 300, 999], [], [200], [INT_MISSING, 100]], dtype=tf.int64
    )
    raw = {
        "user": tf.constant([7, 7, 12, 12]),
        "item": tf.constant([100, 200, 300, 1]),
        "recent": items,
        "oldest": items,
        "tags": tf.ragged.constant([["a", "b"], ["b"], [], ["", "a"]]),
    }
    raw = {k: tf.cast(v, tf.int64) if k in ("user", "item") else v for k, v in raw.items()}
    return load(LISTS), raw


def test_lists_keep_one_end_are_padded_and_share(lists):
    # item: 0 missing, 1 unknown, 100 -> 2, 300 -> 3, 200 -> 4.
    encoder, raw = lists
    encoded = encoder(raw)
    assert list(encoded) == ["user", "item", "recent", "oldest", "tags"]
    assert encoded["item"].numpy().tolist() == [2, 4, 3, 1]
    assert encoded["recent"].numpy().tolist() == [[4, 3, 1], [0, 0, 0], [4, 0, 0], [0, 2, 0]]
    # `oldest` fills a missing element with its own default, 300; padding stays 0.
    assert encoded["oldest"].numpy().tolist() == [[2, 4, 3], [0, 0, 0], [4, 0, 0], [3, 2, 0]]
    tags = encoded["tags"].numpy()
    assert tags[0, 1] == tags[1, 0] != 0
    assert tags[0, 0] == tags[3, 1] != 0
    assert (tags == 0).tolist() == [[False, False], [False, True], [True, True], [True, False]]


def test_model_features_follow_the_spec(lists):
    encoder, _ = lists
    rows = {f.name: (f.cardinality, f.dim, f.length, f.table) for f in encoder.model_features}
    assert rows == {
        "user": (7, 16, None, "user"),
        "item": (5, 8, None, "item"),
        "recent": (5, 8, 3, "item"),
        "oldest": (5, 8, 3, "item"),
        "tags": (51, 16, 2, "tags"),
    }


def test_a_history_lists_items_that_are_no_model_input(load):
    hidden = COMMON.replace("dim = 8", "model_input = false")
    encoder = load('[history]\nname = "history"\nlength = 2', common=hidden)
    assert [feature.name for feature in encoder.model_features] == ["user", "history"]
    ids = encoder.encode_values(encoder.spec.column("history"), tf.constant([300, 1]))
    assert ids.numpy().tolist() == [3, 1]


class TestGroups:
    @pytest.mark.parametrize(
        ("options", "values", "groups", "names"),
        [
            (
                'encoding = "buckets", boundaries = [15.5, 40]',
                [3, 16, 40, INT_MISSING],
                [0, 1, 2, 0],
                ["<15.5", "15.5 to <40", ">=40"],
            ),
            ('encoding = "buckets", quantiles = 2', [3, 16], [0, 0], ["all"]),
            (
                'encoding = "vocabulary"',
                [9, 4, 77, INT_MISSING],
                [1, 2, 0, 0],
                ["other", "9", "4"],
            ),
            (
                'encoding = "vocabulary", num_oov = 2',
                [9, 4],
                [2, 3],
                ["other", "other 1", "9", "4"],
            ),
            (
                'encoding = "identity", num_values = 2',
                [0, 1, 2, INT_MISSING],
                [1, 2, 0, 0],
                ["other", "0", "1"],
            ),
        ],
    )
    def test_ids_and_names(self, load, options, values, groups, names):
        encoder = load(f'g = {{ role = "group", type = "int", {options} }}', {"g": "94"}, {"g": []})
        assert encoder.encode_group(tf.constant(values)).numpy().tolist() == groups
        assert encoder.group_names() == names
        assert encoder.num_groups == len(names)
        assert "g" not in [feature.name for feature in encoder.model_features]

    def test_hashed_groups(self, load):
        encoder = load(
            'g = { role = "group", type = "string", encoding = "hash", num_buckets = 3 }'
        )
        groups = encoder.encode_group(tf.strings.as_string(tf.range(50))).numpy()
        assert set(groups) == {0, 1, 2}
        assert encoder.group_names() == ["0", "1", "2"]

    def test_a_log_without_groups_has_one(self, load):
        encoder = load()
        assert encoder.num_groups == 1
        assert encoder.group_names() == ["all"]


class TestFiles:
    def test_tables_round_trip(self, tmp_path):
        tables = EncodingTables({"a": 3}, {"b": [0.5, 1.0]}, {"c": (1.0, 2.0)})
        tables.save(tmp_path)
        assert EncodingTables.load(tmp_path) == tables

    @pytest.mark.parametrize(
        ("change", "received"),
        [
            (('"user": 3', '"us3r": 3'), "no vocabulary_sizes of column 'user'"),
            (('"user": 3', '"user": "three"'), "vocabulary_sizes.user: Input should be a valid"),
            (('"vocabulary_sizes"', '"vocabulary_siz"'), "vocabulary_siz: Unexpected"),
            (("{", '{"later": 1,'), "later: Unexpected"),
            (('"watched"', '"watch"'), "no moments of column 'watched'"),
            (("{", ""), "Invalid JSON"),
        ],
    )
    def test_damage_is_told(self, tmp_path, change, received):
        watched = 'watched = { type = "float", encoding = "numeric", scaling = "standard" }\n'
        path = make_directory(tmp_path / "data", watched) / "encoding.json"
        path.write_text(path.read_text().replace(*change, 1))
        with pytest.raises(ValueError, match=f"encoding.json is damaged.* Received: {received}"):
            Encoder.load(tmp_path / "data")

    def test_a_copy_encodes_the_same(self, lists, tmp_path):
        encoder, raw = lists
        copy_encoding(tmp_path / "data", tmp_path / "run" / "encoding")
        (tmp_path / "data").rename(tmp_path / "moved")
        copied = Encoder.load(tmp_path / "run" / "encoding")
        assert copied.spec == encoder.spec
        assert_same(copied(raw), encoder(raw))

    def test_a_directory_written_anew_is_read_anew(self, tmp_path):
        directory = make_directory(tmp_path / "data")
        first = Encoder.load(directory)
        path = vocabulary_path(directory, "item")
        path.rename(path.with_suffix(".old"))
        path.write_text("200\n100\n300\n", encoding="utf-8")  # as many tokens, in another order
        again = Encoder.load(directory)
        items = tf.constant([100, 200, 300], tf.int64)
        column = first.spec.item
        assert first.encode_column(column, items).numpy().tolist() == [2, 4, 3]
        assert again.encode_column(column, items).numpy().tolist() == [3, 2, 4]

    def test_missing_vocabulary(self, tmp_path):
        directory = make_directory(tmp_path / "data")
        vocabulary_path(directory, "item").unlink()
        message = "Column 'item' needs its vocabulary. Received: no file .*item.txt. Expected: "
        with pytest.raises(FileNotFoundError, match=message):
            Encoder.load(directory)

    def test_vocabulary_of_another_data_set(self, tmp_path):
        directory = make_directory(tmp_path / "data")
        vocabulary_path(directory, "item").write_text("100\n200\n", encoding="utf-8")
        message = "column 'item' does not belong to its data set. Received: 2 tokens"
        with pytest.raises(ValueError, match=message):
            Encoder.load(directory)


class Exported(tf.Module):
    """Encodes and passes on, as a served model does."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    @tf.function
    def serve(self, raw):
        return self.encoder(raw)


def assert_same(received: dict[str, tf.Tensor], expected: dict[str, tf.Tensor]):
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(received[name], values)


def test_a_saved_model_encodes_the_same_without_its_data(tmp_path):
    columns = (
        'empty = { type = "string", encoding = "vocabulary", num_oov = 2 }\n'
        'age = { type = "float", encoding = "buckets", quantiles = 3 }\n'
        'watched = { type = "float", encoding = "numeric", scaling = "log_standard" }\n'
        'recent = { type = "int", shares = "item", max_length = 2 }\n'
    )
    directory = make_directory(tmp_path / "data", columns, {"empty": []}, {"age": [0.3, 1.5]})
    module = Exported(Encoder.load(directory))
    raw = {
        "user": tf.constant([7, 8], tf.int64),
        "item": tf.constant([300, 1], tf.int64),
        "empty": tf.constant(["a", ""]),
        "age": tf.constant([0.3, math.nan]),
        "watched": tf.constant([1.0, math.nan]),
        "recent": tf.ragged.constant([[100, 5, 200], []], dtype=tf.int64),
    }
    specs = {
        name: tf.RaggedTensorSpec([None, None], values.dtype, row_splits_dtype=tf.int64)
        if isinstance(values, tf.RaggedTensor)
        else tf.TensorSpec([None], values.dtype, name=name)
        for name, values in raw.items()
    }
    expected = module.serve(raw)
    tf.saved_model.save(module, str(tmp_path / "model"), module.serve.get_concrete_function(specs))
    directory.rename(tmp_path / "gone")
    assets = {path.name for path in (tmp_path / "model" / "assets").iterdir()}
    assert {re.sub(r"_\d+", "", name) for name in assets} >= {"user.txt", "item.txt"}
    restored = tf.saved_model.load(str(tmp_path / "model"))
    assert_same(restored.serve(raw), expected)
    assert expected["recent"].numpy().tolist() == [[1, 4], [0, 0]]
