from __future__ import annotations

import datetime
import fnmatch

import numpy as np
import pyarrow.csv as pacsv
import pytest

from clsd_tf.spec import parse_spec, read_spec
from data_pipeline.datasets import spec_path
from data_pipeline.simulated_files import write_simulation
from data_pipeline.simulated_log import SimulatedLog, simulate_log
from data_pipeline.simulated_spec import default_spec
from data_pipeline.simulation import WorldSize

SIZE = WorldSize(rows=60_000, users=1_000, items=400)
MINE = """
name = "mine"
[split]
valid_from = "2024-03-09"
test_from = "2024-03-10"
utc_offset = 5.5
[columns]
uid = { role = "user", type = "string", encoding = "vocabulary" }
sku = { role = "item", type = "int", encoding = "hash", num_buckets = 50 }
shown_at = { role = "timestamp", type = "int", unit = "s" }
stars = { role = "label", type = "float", positive_from = 3.5 }
tier = { role = "group", type = "int", encoding = "identity", num_values = 2 }
sku_color = { type = "string", encoding = "vocabulary", max_size = 3 }
uid_trust = { type = "float", encoding = "buckets", boundaries = [-1.5, 0.0, 1.5] }
place = { type = "int", encoding = "identity", num_values = 4 }
wanted = { type = "int", shares = "sku", max_length = 5, separator = "," }
propensity = { role = "weight", type = "float" }
complaint = { role = "satisfaction", type = "int" }
dwell_seconds = { role = "satisfaction", type = "float" }
"""


def column(simulated: SimulatedLog, name: str) -> np.ndarray:
    """A column of the log."""
    return simulated.log[name].to_numpy()


def truth(simulated: SimulatedLog, name: str) -> np.ndarray:
    """A column of the truth."""
    return simulated.truth[name].to_numpy()


def test_columns_of_ones_own():
    spec = parse_spec(MINE)
    log = simulate_log(spec, SIZE, (0.1, 0.4))
    assert log.log.column_names == [c.source_name for c in spec.source_columns]
    assert {str(log.log.schema.field(name).type) for name in ("uid", "sku_color")} == {"string"}
    assert set(column(log, "tier")) == {0, 1}
    np.testing.assert_array_equal(column(log, "tier"), log.group)
    np.testing.assert_array_equal(column(log, "stars") >= 3.5, log.clicked)
    colors = set(column(log, "sku_color")) - {None}
    assert len(colors) == 3
    trust = column(log, "uid_trust")
    assert all((trust < -1.5) | (trust >= -1.5) | np.isnan(trust))
    assert set(np.searchsorted([-1.5, 0, 1.5], trust[~np.isnan(trust)])) == {0, 1, 2, 3}
    places = column(log, "place")
    assert set(places[~np.isnan(places)]) == {0, 1, 2, 3}
    assert (column(log, "propensity") > 0).all()
    complaints = column(log, "complaint").astype(bool)
    assert not complaints[~log.clicked].any()
    assert truth(log, "is_noise")[complaints].mean() > truth(log, "is_noise")[log.clicked].mean()
    wanted = [cell.split(",") for cell in column(log, "wanted") if cell]
    assert max(map(len, wanted)) == 5
    assert {int(item) for cell in wanted for item in cell} <= set(range(SIZE.items))


def test_a_user_or_an_item_has_one_value():
    log = simulate_log(parse_spec(MINE), SIZE, (0.1, 0.4)).log.to_pylist()
    for key, name in {"tier": "uid", "uid_trust": "uid", "sku_color": "sku"}.items():
        pairs = {(row[name], str(row[key])) for row in log}
        assert len(pairs) == len({value for value, _ in pairs}), key


def test_days_begin_at_the_offset():
    log = simulate_log(parse_spec(MINE), SIZE, (0.1, 0.4))
    local = column(log, "shown_at") + int(5.5 * 3600)
    days = {datetime.datetime.fromtimestamp(t, datetime.UTC).date() for t in local.tolist()}
    assert (min(days), max(days)) == (datetime.date(2024, 3, 1), datetime.date(2024, 3, 10))


def test_the_real_log(tmp_path):
    path = spec_path("kuairand")
    spec = read_spec(path)
    log = simulate_log(spec, WorldSize(3_000, 200, 100), (0.05, 0.1, 0.2, 0.35))
    files = write_simulation(log, spec, path.read_text(encoding="utf-8"), tmp_path / "log")
    patterns = [spec.input.files, *(table.file for table in spec.tables.values())]
    for pattern in patterns:
        assert len(fnmatch.filter(files, pattern)) == 1
    written = pacsv.read_csv(tmp_path / "log" / fnmatch.filter(files, patterns[0])[0])
    assert set(written["date"].to_pylist()) == set(range(20220425, 20220431)) | set(
        range(20220501, 20220506)
    )
    assert set(written["hourmin"].to_pylist()) <= set(range(0, 2400, 100))
    groups = dict(log.tables["history"].select(["user_id", "history_len"]).to_pandas().values)
    lengths = [groups[user] for user in written["user_id"].to_pylist()]
    np.testing.assert_array_equal(np.searchsorted([16, 41, 91], lengths, "right"), log.group)
    for name, key in {"user": "user_id", "video": "video_id", "history": "user_id"}.items():
        assert len(set(log.tables[name][key].to_pylist())) == log.tables[name].num_rows


@pytest.mark.parametrize("count", ["impressions", "clicks"])
def test_counted_activity(count):
    text = MINE.replace('tier = { role = "group"', 'tier = { role = "ignore"').replace(
        "[columns]", f'[activity]\ncount = "{count}"\nboundaries = [3, 9]\n[columns]'
    )
    text = text.replace("utc_offset", 'train_from = "2024-03-05"\nutc_offset')
    log = simulate_log(parse_spec(text), SIZE, (0.0, 0.2, 0.4))
    days = (column(log, "shown_at") + int(5.5 * 3600)) // 86_400
    start = (datetime.date(2024, 3, 5) - datetime.date(1970, 1, 1)).days
    early = days < start
    assert early.any()
    counted = early & log.clicked if count == "clicks" else early
    users, ids = np.unique(column(log, "uid"), return_inverse=True)
    counts = np.bincount(ids[counted], minlength=len(users))
    groups = np.searchsorted([3, 9], counts, side="right")[ids]
    expected = np.where(early, 0.2, np.array([0.0, 0.2, 0.4])[groups])
    np.testing.assert_allclose(truth(log, "noise_rate"), expected, atol=1e-6)


def test_groups_by_quantiles_of_training_rows():
    text = MINE.replace('"identity", num_values = 2', '"buckets", quantiles = 3')
    log = simulate_log(parse_spec(text), SIZE, (0.0, 0.2, 0.4))
    tier = column(log, "tier")
    days = (column(log, "shown_at") + int(5.5 * 3600)) // 86_400
    training = np.sort(tier[days < days.max() - 1])
    edges = [training[len(training) * j // 3] for j in (1, 2)]
    np.testing.assert_array_equal(np.searchsorted(edges, tier, side="right"), log.group)


def test_shown_lists():
    text = MINE.replace(
        "[columns]",
        '[explode]\nshown = "shown"\nclicked = "clicked"\nseparator = "|"\nposition = "place"\n'
        "[columns]",
    ).replace(
        'stars = { role = "label", type = "float", positive_from = 3.5',
        'stars = { role = "label", type = "int"',
    )
    lists = simulate_log(parse_spec(text), SIZE, (0.1, 0.4))
    assert not {"sku", "stars", "place"} & set(lists.log.column_names)
    shown = [cell.split("|") for cell in column(lists, "shown")]
    clicked = [cell.split("|") if cell else [] for cell in column(lists, "clicked")]
    assert [int(item) for cell in shown for item in cell] == truth(lists, "item").tolist()
    flags = [item in chosen for cell, chosen in zip(shown, clicked, strict=True) for item in cell]
    np.testing.assert_array_equal(flags, lists.clicked)
    users = np.repeat(column(lists, "uid"), [len(cell) for cell in shown])
    np.testing.assert_array_equal(users, truth(lists, "user"))


@pytest.mark.parametrize(
    ("changes", "first", "last"),
    [
        ({'"2024-03-09"': "9", '"2024-03-10"': "10"}, 1, 10),
        ({'"2024-03-09"': "20240229", '"2024-03-10"': "20240301"}, 20240221, 20240301),
    ],
)
def test_days_as_the_log_has_them(changes, first, last):
    text = MINE.replace("utc_offset = 5.5", 'day_column = "day"')
    text += 'day = { role = "ignore", type = "int" }\n'
    for old, new in changes.items():
        text = text.replace(old, new)
    days = column(simulate_log(parse_spec(text), SIZE, (0.1, 0.4)), "day")
    assert (days.min(), days.max()) == (first, last)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "num_values = 2 }",
            "num_values = 3 }",
            "Received: 2 rates, for the 3 groups of column",
        ),
        ('"2024-03-09"', '"2024-02-09"', "needs at least 32 days. Received: 10."),
        (
            '"2024-03-',
            '"march ',
            "Received: 'march",
        ),
        (
            'encoding = "identity", num_values = 2',
            'encoding = "buckets", boundaries = [0.2, 0.4]',
            "no integer lies in bucket 1",
        ),
    ],
)
def test_what_cannot_be_simulated(old, new, message):
    rates = (0.1, 0.2, 0.3) if "buckets" in new else (0.1, 0.2)
    with pytest.raises(ValueError, match=message):
        simulate_log(parse_spec(MINE.replace(old, new)), SIZE, rates, days=10)


def test_sizes():
    with pytest.raises(ValueError, match="`items` must be >= 8. Received: items=2."):
        WorldSize(items=2)
    with pytest.raises(ValueError, match="at least 3 days"):
        default_spec(4, 2)
    with pytest.raises(ValueError, match="in \\[0, 1\\). Received: \\[1.0\\]"):
        simulate_log(parse_spec(default_spec(1, 3)), SIZE, [1.0])
    least = simulate_log(parse_spec(default_spec(1, 3)), WorldSize(1, 1, 8, 1), [0.5])
    assert least.log.num_rows == 1
