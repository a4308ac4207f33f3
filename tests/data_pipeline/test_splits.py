"""Splits by day, time and user."""

from __future__ import annotations

import collections
import hashlib

import pytest

from data_pipeline.splits import SplitError, add_split, split_sizes
from tests.data_pipeline.impressions import COLUMNS, make_engine, make_spec, rows_of, store

INT_DAYS = '[split]\nday_column = "date"\n{}valid_from = 9\ntest_from = 10\n'
DATE = COLUMNS + 'date = { role = "ignore", type = "int" }\n'


@pytest.fixture
def engine():
    return make_engine()


def impressions(engine, times, days=None, users=None):
    days = days or ["2022-05-01"] * len(times)
    users = users or [0] * len(times)
    together = enumerate(zip(times, days, users, strict=True))
    return store(
        engine,
        [{"_row": i, "_time": t, "_day": day, "user_id": user} for i, (t, day, user) in together],
        {},
    )


def splits(table):
    return [row["_split"] for row in rows_of(table)]


class TestByDay:
    def test_boundaries_belong_to_the_later_split(self, engine):
        days = ["2022-04-30", "2022-05-01", "2022-05-02", "2022-05-03", "2022-06-01"]
        table = add_split(impressions(engine, range(5), days), make_spec())
        assert splits(table) == ["history", "train", "valid", "test", "test"]

    def test_integers_are_compared_as_integers(self, engine):
        # As text, "10" comes before "9" and "100" before both.
        spec = make_spec(INT_DAYS.format("train_from = 2\n"), DATE)
        table = add_split(impressions(engine, range(5), ["1", "2", "9", "10", "100"]), spec)
        assert splits(table) == ["history", "train", "valid", "test", "test"]

    def test_without_a_start_nothing_is_history(self, engine):
        spec = make_spec(INT_DAYS.format(""), DATE)
        assert splits(add_split(impressions(engine, [0], ["-5"]), spec)) == ["train"]

    def test_the_day_decides_and_not_the_time(self, engine):
        table = impressions(engine, [0, 1], ["2022-05-03", "2022-05-01"])
        assert splits(add_split(table, make_spec())) == ["test", "train"]

    def test_a_row_without_a_day_is_an_error(self, engine):
        spec = make_spec(INT_DAYS.format(""), DATE)
        with pytest.raises(SplitError, match="1 rows have no day.*'date'"):
            add_split(impressions(engine, [0, 1], ["3", None]), spec)


class TestByTime:
    def test_the_last_fractions(self, engine):
        spec = make_spec('[split]\nby = "time"\nvalid_fraction = 0.2\ntest_fraction = 0.3\n')
        received = splits(add_split(impressions(engine, range(10)), spec))
        assert received == ["train"] * 5 + ["valid"] * 2 + ["test"] * 3

    def test_a_timestamp_is_never_divided(self, engine):
        spec = make_spec('[split]\nby = "time"\nvalid_fraction = 0.2\ntest_fraction = 0.2\n')
        times = [0, 0, 0, 1, 1, 2, 3, 3, 3, 4]
        received = splits(add_split(impressions(engine, times), spec))
        # The boundaries lie at places 6 and 8, both inside time 3, which goes to test as a whole.
        assert received == ["train"] * 6 + ["test"] * 4

    def test_fractions_are_of_the_rows_from_the_start_on(self, engine):
        spec = make_spec(
            '[split]\nby = "time"\ntrain_from = "2022-05-01"\n'
            "valid_fraction = 0.25\ntest_fraction = 0.25\n"
        )
        days = ["2022-04-01"] * 6 + ["2022-05-01"] * 4
        received = splits(add_split(impressions(engine, range(10), days), spec))
        assert received == ["history"] * 6 + ["train", "train", "valid", "test"]

    def test_a_fraction_of_less_than_a_row_is_empty(self, engine):
        spec = make_spec('[split]\nby = "time"\n')
        assert splits(add_split(impressions(engine, range(4)), spec)) == ["train"] * 4

    def test_a_start_of_another_type_than_the_days_is_an_error(self, engine):
        spec = make_spec('[split]\nby = "time"\ntrain_from = 20220501\n')
        with pytest.raises(SplitError, match="Received: 20220501. Expected: a string"):
            add_split(impressions(engine, [0]), spec)


class TestByUser:
    SPEC = '[split]\nby = "user"\nvalid_fraction = 0.2\ntest_fraction = 0.1\n'

    def test_the_md5_of_the_canonical_id_decides(self, engine):
        users = [user % 300 for user in range(900)]
        table = add_split(impressions(engine, range(900), users=users), make_spec(self.SPEC))
        for row in rows_of(table):
            digest = hashlib.md5(f"split/0/{row['user_id']}".encode()).hexdigest()
            chance = int(digest, 16) / 16**32
            expected = "test" if chance < 0.1 else "valid" if chance < 0.3 else "train"
            assert row["_split"] == expected

    def test_fractions_are_of_users(self, engine):
        users = list(range(20_000))
        table = add_split(impressions(engine, users, users=users), make_spec(self.SPEC))
        shares = collections.Counter(splits(table))
        assert shares["test"] / 20_000 == pytest.approx(0.1, abs=0.01)
        assert shares["valid"] / 20_000 == pytest.approx(0.2, abs=0.01)

    def test_strings_and_integers_hash_alike(self, engine):
        numbers = impressions(engine, range(50), users=list(range(50)))
        expected = splits(add_split(numbers, make_spec(self.SPEC)))
        texts = impressions(engine, range(50), users=[str(user) for user in range(50)])
        columns = COLUMNS.replace('"user", type = "int"', '"user", type = "string"')
        assert splits(add_split(texts, make_spec(self.SPEC, columns))) == expected


class TestSizes:
    def test_empty_validation_and_test_are_allowed(self, engine):
        table = add_split(impressions(engine, [0, 1], ["2022-04-30", "2022-05-01"]), make_spec())
        assert split_sizes(table) == {"history": 1, "train": 1, "valid": 0, "test": 0}

    def test_nothing_to_train_on_is_an_error(self, engine):
        table = add_split(impressions(engine, [0, 1], ["2022-05-02", "2022-05-04"]), make_spec())
        with pytest.raises(SplitError, match="of the days 2022-05-02 to 2022-05-04"):
            split_sizes(table)
