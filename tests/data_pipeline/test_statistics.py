"""What the encoding learns, against plain Python."""

from __future__ import annotations

import collections
import json
import math
import random

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from clsd_tf.encoding import Encoder, EncodingTables
from data_pipeline.splits import SPLITS
from data_pipeline.statistics import learn_tables
from tests.data_pipeline.impressions import COLUMNS, make_engine, make_spec, store

TYPES = {
    "city": pa.string(),
    "tags": pa.list_(pa.int64()),
    "price": pa.float64(),
    "value": pa.int64(),
    "seen": pa.list_(pa.int64()),
}
REQUIRED = {"_split": "train", "user_id": 1, "item_id": 1, "click": 0, "time_ms": 0}


def learn(rows, columns, directory, threads=2):
    """Learns from rows that name only the columns that matter."""
    spec = make_spec(columns=COLUMNS + columns)
    table = store(make_engine(threads), [REQUIRED | row for row in rows], TYPES)
    return learn_tables(table.get_backend(), table, spec, directory)


def vocabulary(directory, column):
    return (directory / "vocab" / f"{column}.txt").read_text(encoding="utf-8").split("\n")[:-1]


def by_count(counter):
    return sorted(counter, key=lambda token: (-counter[token], token))


class TestVocabularies:
    CITY = 'city = {{ type = "string", encoding = "vocabulary"{} }}\n'

    def test_most_frequent_first_ties_by_code_point(self, tmp_path):
        cities = ["b", "a", "b", "Z", None, "ä", "é", "ä", "10", "9"]
        learn([{"city": city} for city in cities], self.CITY.format(""), tmp_path)
        assert vocabulary(tmp_path, "city") == ["b", "ä", "10", "9", "Z", "a", "é"]

    def test_integers_of_equal_count_go_by_number(self, tmp_path):
        rows = [{"value": value} for value in (10, 9, -1, 100, 100)]
        learn(rows, 'value = { type = "int", encoding = "vocabulary" }\n', tmp_path)
        assert vocabulary(tmp_path, "value") == ["100", "-1", "9", "10"]

    @pytest.mark.parametrize("options", ["", ", min_count = 3", ", min_count = 2, max_size = 5"])
    def test_is_the_counter_of_training_rows(self, tmp_path, options):
        rng = random.Random(5)
        rows = [
            {"_split": rng.choice(SPLITS), "city": rng.choice(["", "x"]) + str(rng.randrange(20))}
            for _ in range(300)
        ]
        counter = collections.Counter(row["city"] for row in rows if row["_split"] == "train")
        least = 3 if "= 3" in options else 2 if "= 2" in options else 1
        expected = [token for token in by_count(counter) if counter[token] >= least]
        expected = expected[:5] if "max_size" in options else expected
        learn(rows, self.CITY.format(options), tmp_path)
        assert vocabulary(tmp_path, "city") == expected
        assert EncodingTables.load(tmp_path).vocabulary_sizes["city"] == len(expected)

    def test_missing_values_count_as_the_default(self, tmp_path):
        rows = [{"city": city} for city in ("a", "b", "b", None, None, None)]
        learn(rows, self.CITY.format(', default = "Ulm"'), tmp_path)
        assert vocabulary(tmp_path, "city") == ["Ulm", "b", "a"]

    def test_a_default_that_means_missing_is_no_token(self, tmp_path):
        learn([{"city": "a"}, {"city": None}], self.CITY.format(', default = ""'), tmp_path)
        assert vocabulary(tmp_path, "city") == ["a"]

    @pytest.mark.parametrize("keep", ["first", "last"])
    def test_lists_count_the_elements_that_are_kept(self, tmp_path, keep):
        rng = random.Random(6)
        lists = [[rng.randrange(6) for _ in range(rng.randrange(5))] for _ in range(100)]
        lists += [None, [None, 3]]
        options = f'encoding = "vocabulary", max_length = 2, keep = "{keep}"'
        learn([{"tags": tags} for tags in lists], f'tags = {{ type = "int", {options} }}', tmp_path)
        counter = collections.Counter()
        for tags in filter(None, lists):
            counter.update(t for t in (tags[:2] if keep == "first" else tags[-2:]) if t is not None)
        assert vocabulary(tmp_path, "tags") == [str(token) for token in by_count(counter)]

    def test_tokens_come_from_the_owner_alone(self, tmp_path):
        rows = [{"value": 1, "seen": [7, 8]}, {"value": 2, "seen": []}]
        columns = (
            'value = { type = "int", encoding = "vocabulary" }\n'
            'seen = { type = "int", shares = "value", max_length = 4 }\n'
        )
        learned = learn(rows, columns, tmp_path)
        assert vocabulary(tmp_path, "value") == ["1", "2"]
        assert set(learned.encoding.vocabulary_sizes) == {"user_id", "item_id", "value"}

    def test_tokens_with_line_breaks_are_left_out_and_counted(self, tmp_path):
        rows = [{"city": city} for city in ("a", " b\t", "c\nd", "c\nd", "e\r", "f")]
        learned = learn(rows, self.CITY.format(""), tmp_path)
        assert learned.tokens_with_line_breaks == {"city": 2}
        assert vocabulary(tmp_path, "city") == [" b\t", "a", "f"]

    def test_the_encoder_finds_every_token_in_its_place(self, tmp_path):
        cities = ["a", "a", "a", "Öl kanne", "Öl kanne", " b "]
        columns = self.CITY.format("")
        learned = learn([{"city": city} for city in cities], columns, tmp_path)
        spec = make_spec(columns=COLUMNS + columns)
        encoder = Encoder(spec, learned.encoding, tmp_path)
        raw = tf.constant(["a", "Öl kanne", " b ", "b", ""])
        assert encoder.encode_values(spec.column("city"), raw).numpy().tolist() == [2, 3, 4, 1, 0]

    def test_a_column_without_values_has_an_empty_vocabulary(self, tmp_path):
        learned = learn([{"city": None}], self.CITY.format(""), tmp_path)
        assert vocabulary(tmp_path, "city") == []
        assert learned.encoding.vocabulary_sizes["city"] == 0


class TestBoundaries:
    PRICE = 'price = {{ type = "float", encoding = "buckets", quantiles = {} }}\n'

    def learned(self, prices, quantiles, directory):
        learn([{"price": price} for price in prices], self.PRICE.format(quantiles), directory)
        return EncodingTables.load(directory).boundaries["price"]

    def test_golden(self, tmp_path):
        assert self.learned([4.0, 1.0, 3.0, 2.0, None], 4, tmp_path) == [2.0, 3.0, 4.0]

    @pytest.mark.parametrize("quantiles", [2, 5, 20])
    def test_are_the_values_at_the_places(self, tmp_path, quantiles):
        rng = random.Random(quantiles)
        prices = [round(rng.expovariate(1), 1) for _ in range(200)] + [0.1, 1e-3, 16777217.0]
        ordered = sorted(np.float32(price) for price in prices)
        at = {ordered[j * len(ordered) // quantiles] for j in range(1, quantiles)}
        expected = sorted(float(value) for value in at if value > ordered[0])
        assert self.learned(prices, quantiles, tmp_path) == expected

    def test_values_that_differ_in_float64_only_are_one(self, tmp_path):
        received = self.learned([0.0, 0.1, 0.1 + 1e-12, 0.1 - 1e-12], 4, tmp_path)
        assert received == [float(np.float32(0.1))]

    def test_a_frequent_value_is_one_boundary(self, tmp_path):
        assert self.learned([0.0] + [5.0] * 8 + [9.0], 10, tmp_path) == [5.0, 9.0]

    def test_no_bucket_is_empty_in_training(self, tmp_path):
        assert self.learned([0.0] * 6 + [1.0, 2.0, 3.0, 4.0], 5, tmp_path) == [1.0, 3.0]

    @pytest.mark.parametrize("prices", [[7.0] * 5, [None], [1e300] * 3])
    def test_a_single_value_needs_no_boundary(self, tmp_path, prices):
        assert self.learned(prices, 4, tmp_path) == []

    def test_the_default_fills_in(self, tmp_path):
        columns = 'value = { type = "int", encoding = "buckets", quantiles = 2, default = 9 }\n'
        rows = [{"value": value} for value in (1, None, None, None)]
        assert learn(rows, columns, tmp_path).encoding.boundaries["value"] == [9.0]

    def test_integers_round_as_the_encoder_rounds(self, tmp_path):
        columns = 'value = { type = "int", encoding = "buckets", quantiles = 2 }\n'
        rows = [{"value": value} for value in (0, 16777217, 9007199791611905)]
        received = learn(rows, columns, tmp_path).encoding.boundaries["value"]
        assert received == [float(tf.cast(16777217, tf.float32))]


class TestMoments:
    PRICE = 'price = {{ type = "float", encoding = "numeric", scaling = "{}" }}\n'

    def learned(self, prices, scaling, directory, threads=2):
        rows = [{"price": price} for price in prices]
        return learn(rows, self.PRICE.format(scaling), directory, threads).encoding.moments["price"]

    def test_golden(self, tmp_path):
        assert self.learned([1.0, 3.0, None], "standard", tmp_path) == (2.0, 1.0)
        logs = [0.0, math.e - 1, 1 - math.e]
        mean, deviation = self.learned(logs, "log_standard", tmp_path)
        assert mean == pytest.approx(0, abs=1e-7)
        assert deviation == pytest.approx(math.sqrt(2 / 3), rel=1e-7)

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9, 1e30])
    def test_are_those_of_numpy(self, tmp_path, scale):
        rng = np.random.default_rng(3)
        prices = (rng.lognormal(size=500) * scale).tolist()
        mean, deviation = self.learned(prices, "standard", tmp_path)
        values = np.float32(prices).astype(np.float64)
        assert mean == pytest.approx(values.mean(), rel=1e-7)
        assert deviation == pytest.approx(values.std(), rel=1e-7)
        logs = np.log1p(values)
        mean, deviation = self.learned(prices, "log_standard", tmp_path)
        assert mean == pytest.approx(logs.mean(), rel=1e-6)
        assert deviation == pytest.approx(logs.std(), rel=1e-6)

    @pytest.mark.parametrize("prices", [[None], [0.0, 0.0]])
    def test_without_spread(self, tmp_path, prices):
        assert self.learned(prices, "standard", tmp_path) == (0.0, 0.0)

    def test_order_and_threads_change_no_bit(self, tmp_path):
        rng = np.random.default_rng(4)
        prices = rng.lognormal(size=300_000).tolist()
        one = self.learned(prices, "standard", tmp_path, threads=1)
        assert self.learned(prices[::-1], "standard", tmp_path, threads=2) == one


def test_only_training_rows_teach(tmp_path):
    columns = TestVocabularies.CITY.format("") + TestBoundaries.PRICE.format(4)
    train = [{"city": f"c{i % 3}", "price": float(i)} for i in range(20)]
    others = [
        {"_split": split, "city": "other", "price": 1e6} for split in ("history", "valid", "test")
    ]
    learn(train, columns, tmp_path / "without")
    learn(train + others, columns, tmp_path / "with")
    for name in ("encoding.json", "vocab/city.txt"):
        without, with_others = ((tmp_path / d / name).read_text() for d in ("without", "with"))
        assert without == with_others
    assert json.loads((tmp_path / "with" / "encoding.json").read_text())["vocabulary_sizes"]
