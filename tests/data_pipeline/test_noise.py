"""Planted noise."""

from __future__ import annotations

import hashlib

import ibis
import pyarrow.parquet as pq
import pytest

from data_pipeline.noise import NOISE_FILE, NoiseError, group_rates, plant_noise, write_truth
from data_pipeline.splits import add_split
from tests.data_pipeline.impressions import make_engine, make_spec, random_rows, rows_of, store

RATES = (0.1, 0.6)


@pytest.fixture
def engine():
    return make_engine()


def planted(engine, rows, rates=RATES, seed=3):
    table = add_split(store(engine, rows), make_spec())
    return plant_noise(table.mutate(_group=table.user_id % 2), "click", rates, seed)


def test_the_hash_of_row_and_seed_decides(engine):
    rows = random_rows(500, seed=1)
    received = rows_of(planted(engine, rows))
    assert any(row["_is_noise"] for row in received)
    for row, before in zip(received, rows, strict=True):
        digest = hashlib.md5(f"noise/3/{row['_row']}".encode()).hexdigest()
        drawn = int(digest, 16) / 16**32 < RATES[row["user_id"] % 2]
        noise = drawn and before["click"] == 0 and row["_split"] in ("train", "valid")
        assert row["_is_noise"] == noise
        assert row["click"] == before["click"] or noise
        assert row["click"] == max(before["click"], int(noise))


def test_test_rows_and_rows_before_training_stay_clean(engine):
    rows = random_rows(500, seed=2)
    received = rows_of(planted(engine, rows, (1.0, 1.0)))
    for row, before in zip(received, rows, strict=True):
        if row["_split"] in ("train", "valid"):
            assert row["click"] == 1
        else:
            assert row["click"] == before["click"]


def test_rates_are_met(engine):
    rows = [row | {"click": 0, "_day": "2022-05-01"} for row in random_rows(20_000, seed=3)]
    received = rows_of(planted(engine, rows))
    for group, rate in enumerate(RATES):
        of_group = [row["_is_noise"] for row in received if row["user_id"] % 2 == group]
        assert sum(of_group) / len(of_group) == pytest.approx(rate, abs=0.015)


def test_seeds_draw_other_clicks(engine):
    rows = random_rows(500, seed=4)
    first, again, other = (rows_of(planted(engine, rows, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_rate_zero_plants_nothing(engine):
    assert not any(row["_is_noise"] for row in rows_of(planted(engine, random_rows(90, 5), (0, 0))))


def test_truth_holds_the_noisy_splits_in_order(engine, tmp_path):
    table = planted(engine, random_rows(300, seed=6))
    write_truth(engine, table, tmp_path)
    truth = pq.read_table(tmp_path / NOISE_FILE).to_pylist()
    noisy = table.filter(table["_split"].isin(["train", "valid"]))
    assert truth == rows_of(noisy.select("_row", split="_split", is_noise="_is_noise"))
    assert {row["split"] for row in truth} == {"train", "valid"}


class TestRates:
    def test_one_rate_is_that_of_all(self):
        assert group_rates([0.1], ["a", "b"]) == [0.1, 0.1]
        assert group_rates([0.1, 0.2], ["a", "b"]) == [0.1, 0.2]

    def test_another_number_is_an_error(self):
        with pytest.raises(
            NoiseError, match="Received: 2 rates. Expected: 3, for the groups <1, 1 to <2"
        ):
            group_rates([0.1, 0.2], ["<1", "1 to <2", ">=2"])

    @pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
    def test_a_rate_is_a_probability(self, rate):
        with pytest.raises(NoiseError, match="probability in .0, 1.. Received"):
            group_rates([rate], ["all"])


def test_no_group_can_be_drawn_without_its_rate(engine):
    rows = store(engine, random_rows(20, seed=7))
    rows = add_split(rows, make_spec()).mutate(_group=ibis.literal(5))
    assert not any(row["_is_noise"] for row in rows_of(plant_noise(rows, "click", (1.0,), 0)))
