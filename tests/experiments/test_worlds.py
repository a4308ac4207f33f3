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


def test_each_kind_of_noise_is_a_world():
    noise = ["groups:.05,.10", "items:.1:.4", "where:a/b=c d:.3", "interest:.4", "items:.10:.4"]
    worlds = choose_worlds([".05,.10"], [], noise)
    assert worlds[1] == noisy_world(".05,.1")
    assert [(world.name, world.noise) for world in worlds[2:]] == [
        ("noise_items_0.1_0.4", "items:0.1:0.4"),
        ("noise_where_a_b=c_d_0.3", "where:a/b=c d:0.3"),
        ("noise_interest_0.4", "interest:0.4"),
    ]
    assert not any(world.is_given for world in worlds[1:])
    with pytest.raises(ValueError, match="a kind, a colon and its rates. Received: 'clickbait'"):
        choose_worlds([], [], ["clickbait"])


def test_origins_are_worlds_of_their_own():
    assert [w.name for w in choose_worlds([], ["20220430"])] == ["origin_20220430"]
    with pytest.raises(ValueError, match=r"--noise or --noise_rates and --origins\. Expected: one"):
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
    with pytest.raises(ValueError, match="Received: 'monday'. Expected: one like 20220430"):
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


def test_a_world_of_an_earlier_version_is_known(maker, prepared):
    """Its manifest says nothing of options that came later."""
    path = maker.make(noisy_world(".3"))
    text = (path / "manifest.json").read_text()
    manifest = json.loads(text)
    del manifest["prepared"]["write"]["noise"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert maker.make(noisy_world(".3")) == path
    (path / "manifest.json").write_text(text)


def test_clickbait_is_planted_in_the_given_log(maker, prepared):
    (_, world) = choose_worlds([], [], ["items:.2:.5"])
    noise = Manifest.load(maker.make(world)).noise
    assert noise["planted"] == "items:0.2:0.5"
    assert all(0.02 < rate < 0.3 for rate in noise["rates"].values())


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
    with pytest.raises(ValueError, match="not known of which log .* Expected: --input"):
        WorldMaker(tmp_path, tmp_path / "worlds", None).make(noisy_world(".3"))
