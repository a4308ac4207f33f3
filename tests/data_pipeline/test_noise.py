"""Planted noise."""

from __future__ import annotations

import hashlib

import ibis
import pyarrow.parquet as pq
import pytest

from data_pipeline.noise import NOISE_FILE, plant_noise, planted_shares, write_truth
from data_pipeline.noise_base import NoiseError, NoisyLog
from data_pipeline.noise_kinds import GroupNoise, InterestNoise, group_rates, parse_noise
from data_pipeline.splits import add_split
from tests.data_pipeline.impressions import (
    COLUMNS,
    make_engine,
    make_spec,
    random_rows,
    rows_of,
    store,
)

RATES = (0.1, 0.6)


@pytest.fixture
def engine():
    return make_engine()


SPEC = make_spec(
    columns=COLUMNS
    + """
tab = { type = "string", encoding = "vocabulary" }
age = { type = "float", encoding = "numeric" }
"""
)


BY_GROUP = GroupNoise(RATES)


def planted(engine, rows, noise=BY_GROUP, seed=3):
    table = add_split(store(engine, rows), SPEC)
    kind = parse_noise(noise) if isinstance(noise, str) else noise
    log = NoisyLog(engine, SPEC, ("even", "odd"), seed)
    return plant_noise(log, table.mutate(_group=table.user_id % 2), kind)


def chance(text: str) -> float:
    return int(hashlib.md5(text.encode()).hexdigest(), 16) / 16**32


def flips(received: list[dict], before: list[dict], seed: int, rate) -> list[bool]:
    """Which rows are noise, where `rate` says the rate of a row as it was logged."""
    return [
        row["_split"] in ("train", "valid")
        and old["click"] == 0
        and chance(f"noise/{seed}/{row['_row']}") < rate(old)
        for row, old in zip(received, before, strict=True)
    ]


def test_the_hash_of_row_and_seed_decides(engine):
    rows = random_rows(500, seed=1)
    received = rows_of(planted(engine, rows))
    assert any(row["_is_noise"] for row in received)
    expected = flips(received, rows, 3, lambda row: RATES[row["user_id"] % 2])
    for row, before, noise in zip(received, rows, expected, strict=True):
        assert row["_is_noise"] == noise
        assert row["click"] == max(before["click"], int(noise))


def test_test_rows_and_rows_before_training_stay_clean(engine):
    rows = random_rows(500, seed=2)
    received = rows_of(planted(engine, rows, GroupNoise((1.0,))))
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
    table = planted(engine, random_rows(90, 5), GroupNoise((0.0,)))
    assert not any(row["_is_noise"] for row in rows_of(table))


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
        with pytest.raises(NoiseError, match="is a probability. Received"):
            group_rates([rate], ["all"])


class TestItems:
    def test_the_seed_draws_the_items(self, engine):
        rows = [row | {"item_id": row["_row"] % 90} for row in random_rows(900, seed=8)]
        for seed in (0, 1):
            received = rows_of(planted(engine, rows, "items:.3:.5", seed))
            noisy = {item for item in range(90) if chance(f"noise items/{seed}/{item}") < 0.3}
            assert 15 < len(noisy) < 40
            rate = lambda row: 0.5 * (row["item_id"] in noisy)  # noqa: B023, E731
            expected = flips(received, rows, seed, rate)
            assert sum(expected) > 20
            assert [row["_is_noise"] for row in received] == expected

    def test_all_or_none(self, engine):
        rows = random_rows(90, seed=9)
        assert not any(row["_is_noise"] for row in rows_of(planted(engine, rows, "items:0:1")))
        everything = rows_of(planted(engine, rows, "items:1:1"))
        assert all(row["click"] for row in everything if row["_split"] in ("train", "valid"))


IN_TABS = [
    row | {"tab": [None, "home", "a:b=c"][row["_row"] % 3], "age": 1.0}
    for row in random_rows(600, seed=10)
]


class TestWhere:
    @pytest.mark.parametrize(
        ("noise", "rate"),
        [
            ("where:tab=home:.4", lambda row: 0.4 * (row["tab"] == "home")),
            ("where:tab=a:b=c:1", lambda row: 1.0 * (row["tab"] == "a:b=c")),
            ("where:user_id=2:.7", lambda row: 0.7 * (row["user_id"] == 2)),
        ],
    )
    def test_rows_with_the_value(self, engine, noise, rate):
        received = rows_of(planted(engine, IN_TABS, noise))
        expected = flips(received, IN_TABS, 3, rate)
        assert any(expected)
        assert [row["_is_noise"] for row in received] == expected

    @pytest.mark.parametrize(
        ("noise", "message"),
        [
            ("where:tabs=home:.4", "Received: 'tabs'. Expected one of: .* Did you mean 'tab'"),
            ("where:click=1:.4", "known before the click has a value. Received: 'click'"),
            ("where:age=1:.4", "Received: 'age'. Expected one of: user_id, item_id, tab"),
            ("where:user_id=ann:.4", "'user_id' holds integers. Received: 'ann'"),
            ("where:tab=away:.4", "Received: where:tab=away:0.4. .*most frequent being "),
        ],
    )
    def test_a_value_that_is_not_there(self, engine, noise, message):
        with pytest.raises(NoiseError, match=message):
            planted(engine, IN_TABS, noise)


class TestInterest:
    def test_the_rate_falls_with_the_odds_of_item_and_user(self, engine):
        rows = random_rows(400, seed=11)
        received = rows_of(planted(engine, rows, "interest:.8"))
        train = [row for row in rows if row["_day"] == "2022-05-01"]
        mean = sum(row["click"] for row in train) / len(train)

        def odds(column: str, value: int) -> float:
            own = [row["click"] for row in train if row[column] == value]
            rate = (sum(own) + 20 * mean) / (len(own) + 20)
            return rate / (1 - rate)

        def rate(row: dict) -> float:
            of_all = mean / (1 - mean)
            both = odds("item_id", row["item_id"]) * odds("user_id", row["user_id"]) / of_all
            return round(0.8 / (1 + both) * 1024) / 1024

        expected = flips(received, rows, 3, rate)
        assert any(expected)
        assert [row["_is_noise"] for row in received] == expected
        assert len({rate(row) for row in rows}) > 10

    def test_needs_clicks_and_others(self, engine):
        rows = [row | {"click": 1} for row in random_rows(50, seed=12)]
        with pytest.raises(NoiseError, match="Received: .* clicks in .* Expected: clicks and non-"):
            planted(engine, rows, InterestNoise(0.4))


def test_shares_count_what_came_of_it(engine):
    rows = random_rows(500, seed=13)
    table = planted(engine, rows, "items:.5:.5")
    shares = planted_shares(table, "click", ("even", "odd"))
    train = [
        (row, before)
        for row, before in zip(rows_of(table), rows, strict=True)
        if row["_split"] == "train" and before["click"] == 0
    ]
    for group, name in enumerate(("even", "odd")):
        own = [row["_is_noise"] for row, _ in train if row["user_id"] % 2 == group]
        assert 0 < shares[name] == pytest.approx(sum(own) / len(own))
    assert planted_shares(table, "click", ("even", "odd", "empty"))["empty"] == 0.0


class TestText:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("groups:.05,.10", "groups:0.05,0.1"),
            ("items:.1:.4", "items:0.1:0.4"),
            ("where:tab=1:.30", "where:tab=1:0.3"),
            ("interest:.4", "interest:0.4"),
        ],
    )
    def test_is_written_in_one_way(self, text, canonical):
        assert str(parse_noise(text)) == canonical
        assert parse_noise(canonical) == parse_noise(text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("item:.1:.4", "Received: 'item:.1:.4'. Expected one of: groups:RATE.* items:SHARE:R"),
            (".4", "a kind, a colon and its rates. Received: '.4'"),
            ("items:.4", "Received: 'items:.4'. Expected: items:SHARE:RATE"),
            ("items:x:.4", "Received: 'x'. Expected: items:SHARE:RATE"),
            ("items:1.1:.4", r"A share of items .* Received: .1.1.. Expected: numbers in .0, 1."),
            ("where:tab:.3", "Received: 'where:tab:.3'. Expected: where:COLUMN=VALUE:RATE"),
            ("where:tab=1", "Received: 'where:tab=1'. Expected: where:COLUMN=VALUE:RATE"),
            ("where:tab=:.3", "Expected: where:COLUMN=VALUE:RATE"),
            (
                "interest:-1",
                "A noise rate is a probability. Received: .-1.0.. Expected: numbers in .0, 1.",
            ),
            ("groups:.1,", "Received: ''. Expected: groups:RATE,RATE,..."),
        ],
    )
    def test_what_cannot_be_read(self, text, message):
        with pytest.raises(NoiseError, match=message):
            parse_noise(text)


def test_no_group_can_be_drawn_without_its_rate(engine):
    rows = store(engine, random_rows(20, seed=7))
    rows = add_split(rows, SPEC).mutate(_group=ibis.literal(5))
    log = NoisyLog(engine, SPEC, ("all",), 0)
    assert not any(row["_is_noise"] for row in rows_of(plant_noise(log, rows, GroupNoise((1.0,)))))
