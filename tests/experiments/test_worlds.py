"""Worlds: which there are, and that they are made of the log of the given data set."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from clsd_tf.spec import parse_spec
from data_pipeline.manifest import Manifest
from experiments.worlds import (
    World,
    WorldMaker,
    choose_worlds,
    noisy_world,
    origin_world,
    spec_of_origin,
)


def test_the_log_as_it_is_stands_beside_planted_noise():
    worlds = choose_worlds([".05,.10", ".2"], [])
    assert [world.name for world in worlds] == ["as_is", "noise_0.05_0.1", "noise_0.2"]
    assert [world.noise_rates for world in worlds] == [(), (0.05, 0.1), (0.2,)]


def test_origins_are_worlds_of_their_own():
    assert [w.name for w in choose_worlds([], ["20220430"])] == ["origin_20220430"]
    with pytest.raises(ValueError, match=r"--noise_rates and --origins\. Leave one of them out"):
        choose_worlds([".1"], ["20220430"])


def test_rates_are_numbers():
    with pytest.raises(ValueError, match=r"numbers with commas.*'\.1,x'"):
        noisy_world(".1,x")


def test_an_origin_judges_the_next_day(prepared):
    text = (prepared / "spec.toml").read_text()
    changed, judged = spec_of_origin(text, "20240131")
    moved = parse_spec(changed).split
    assert (moved.valid_from, moved.test_from, judged) == (20240201, 20240202, "20240201")


def test_days_of_an_origin_are_dates(prepared):
    text = (prepared / "spec.toml").read_text()
    with pytest.raises(ValueError, match="a day like 20220430 or 2022-04-30. Received: 'monday'"):
        spec_of_origin(text, "monday")
    by_time = '[split]\nby = "time"\n' + text[text.index("[history]") :]
    with pytest.raises(ValueError, match="a spec that splits by time"):
        spec_of_origin('name = "x"\n' + by_time, "20240101")


@pytest.fixture(scope="module")
def maker(prepared, tmp_path_factory) -> WorldMaker:
    return WorldMaker(prepared, tmp_path_factory.mktemp("worlds"), None)


def test_noise_is_planted_in_the_same_rows(maker, prepared):
    path = maker.make(noisy_world(".3"))
    manifest = Manifest.load(path)
    assert manifest.rows == Manifest.load(prepared).rows
    assert set(manifest.noise["rates"].values()) == {0.3}
    truth = pq.read_table(path / "truth" / "noise.parquet")
    assert 0.1 < truth["is_noise"].to_numpy().mean() < 0.3
    written = (path / "manifest.json").stat().st_mtime_ns
    assert maker.make(noisy_world(".3")) == path
    assert (path / "manifest.json").stat().st_mtime_ns == written


def test_an_origin_ends_with_the_judged_day(maker, prepared):
    days = parse_spec((prepared / "spec.toml").read_text()).split
    path = maker.make(origin_world(str(days.valid_from - 2)))
    rows = Manifest.load(path).rows
    assert rows["train"] and rows["valid"] and not rows["test"]
    assert rows["train"] < Manifest.load(prepared).rows["train"]


def test_the_log_as_it_is_is_not_prepared_again(maker, prepared):
    assert maker.make(World()) == prepared


def test_another_world_in_the_same_place_is_refused(prepared, maker, tmp_path):
    path = maker.make(noisy_world(".3"))
    other = WorldMaker(prepared, path.parent, None, noise_seed=1)
    with pytest.raises(ValueError, match="was prepared otherwise.*Choose another --output_dir"):
        other.make(noisy_world(".3"))


def test_a_data_set_of_an_unknown_log_needs_the_log(prepared, tmp_path):
    for name in ("spec.toml", "manifest.json"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "prepared": {}}))
    with pytest.raises(ValueError, match="does not say of which log it was made. Expected: --inp"):
        WorldMaker(tmp_path, tmp_path / "worlds", None).make(noisy_world(".3"))
