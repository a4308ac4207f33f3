from __future__ import annotations

import datetime
import fnmatch
import json
import subprocess
import sys

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from clsd_tf.spec import parse_spec, read_spec
from data_pipeline.datasets import spec_path
from data_pipeline.simulated_files import file_name, write_simulation
from data_pipeline.simulated_log import SimulatedLog, simulate_log
from data_pipeline.simulated_spec import default_spec
from data_pipeline.simulation import WorldSize

RATES = (0.05, 0.10, 0.20, 0.35)
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


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative."""
    positives = labels.sum()
    ranks = rankdata(scores)[labels].sum() - positives * (positives + 1) / 2
    return ranks / positives / (len(labels) - positives)


def column(simulated: SimulatedLog, name: str) -> np.ndarray:
    """A column of the log."""
    return simulated.log[name].to_numpy()


def truth(simulated: SimulatedLog, name: str) -> np.ndarray:
    """A column of the truth."""
    return simulated.truth[name].to_numpy()


@pytest.fixture(scope="module")
def simulated() -> SimulatedLog:
    """A log by the simulator's own spec."""
    return simulate_log(parse_spec(default_spec(4, 10)), SIZE, RATES)


class TestWorld:
    def test_noise_rates_are_those_that_were_planted(self, simulated):
        clicked, noise = simulated.clicked, truth(simulated, "is_noise")
        assert not (noise & ~clicked).any()
        uninterested = ~clicked | noise
        earlier = column(simulated, "user_earlier_impressions")
        groups = np.searchsorted([15, 30, 60], earlier, side="right")
        np.testing.assert_array_equal(groups, simulated.group)
        for group, rate in enumerate(RATES):
            rows = uninterested & (groups == group)
            # Four standard deviations of a binomial share.
            error = 4 * np.sqrt(rate * (1 - rate) / rows.sum())
            assert abs(noise[rows].mean() - rate) < error
            np.testing.assert_allclose(truth(simulated, "noise_rate")[groups == group], rate)

    def test_interest_is_a_calibrated_probability(self, simulated):
        interest = truth(simulated, "interest_probability")
        interested = simulated.clicked & ~truth(simulated, "is_noise")
        for low in np.arange(0, 1, 0.1):
            rows = (interest >= low) & (interest < low + 0.1)
            expected = interest[rows].mean()
            error = 4.5 * np.sqrt(expected * (1 - expected) / rows.sum())
            assert abs(interested[rows].mean() - expected) < error

    def test_interest_explains_clean_clicks_and_noise_hides_it(self, simulated):
        interest, clicked = truth(simulated, "interest_probability"), simulated.clicked
        interested = clicked & ~truth(simulated, "is_noise")
        assert 0.72 < auc(interest, interested) < 0.79
        assert auc(interest, clicked) < auc(interest, interested) - 0.08
        assert 0.3 < clicked.mean() < 0.45
        # Among clicks, too, interest tells; a confidence has something to find.
        assert auc(interest[clicked], interested[clicked]) > 0.65

    def test_satisfaction_separates_interest_from_noise(self, simulated):
        clicked, noise = simulated.clicked, truth(simulated, "is_noise")
        interested = clicked & ~noise
        for name in ("long_view", "like", "play_time_ms"):
            values = column(simulated, name)
            assert not values[~clicked].any()
            assert values[interested].mean() > 2 * values[noise].mean()
        assert column(simulated, "long_view")[interested].mean() > 0.7
        assert 0 < column(simulated, "like")[interested].mean() < 0.4
        # Interest in the item tells satisfaction even among clicks that have it.
        interest = truth(simulated, "interest_probability")
        long_view = column(simulated, "long_view").astype(bool)
        assert auc(interest[interested], long_view[interested]) > 0.55

    def test_features_tell_of_interest(self, simulated):
        interest = truth(simulated, "interest_probability")
        for name in ("item_category", "item_author", "user_city", "scene"):
            _, ids = np.unique(column(simulated, name).astype(str), return_inverse=True)
            counts = np.maximum(np.bincount(ids), 1)
            between = (np.bincount(ids, interest) / counts)[ids].var() / interest.var()
            chance = len(counts) / len(ids)
            assert between > 5 * chance, name

    def test_time(self, simulated):
        times, days = column(simulated, "time_ms"), column(simulated, "date")
        assert (np.diff(times) >= 0).all()
        assert sorted(set(days)) == list(range(20240101, 20240111))
        moments = [datetime.datetime.fromtimestamp(t / 1000, datetime.UTC) for t in times[::997]]
        assert [int(f"{m:%Y%m%d}") for m in moments] == days[::997].tolist()
        assert [m.hour for m in moments] == column(simulated, "hour")[::997].tolist()
        counts = np.bincount(column(simulated, "hour"))
        assert counts.argmax() in range(13, 20)
        assert counts.min() > 0

    def test_a_users_impressions_have_ties_but_never_the_same_item(self, simulated):
        users, times = column(simulated, "user_id"), column(simulated, "time_ms")
        items = column(simulated, "item_id")
        rows = list(zip(users, times, items, strict=True))
        assert len(set(rows)) == len(rows)
        requests = len(set(zip(users, times, strict=True)))
        assert 0.5 < requests / len(rows) < 0.7

    def test_a_request_has_one_context(self, simulated):
        names = ("user_id", "time_ms", "hour", "scene", "device", "latency")
        columns = (column(simulated, name).astype(str) for name in names)
        requests = set(zip(*columns, strict=True))
        assert len(requests) == len({request[:2] for request in requests})

    def test_missing_values(self, simulated):
        for name in ("user_age", "item_price", "device"):
            assert 0 < simulated.log[name].null_count < 0.1 * SIZE.rows
        for name in ("user_id", "item_id", "time_ms", "click", "long_view"):
            assert simulated.log[name].null_count == 0


class TestTruth:
    def test_rows_are_those_of_the_log(self, simulated):
        for name, of_log in {"user": "user_id", "item": "item_id", "timestamp": "time_ms"}.items():
            assert simulated.truth[name].combine_chunks() == simulated.log[of_log].combine_chunks()
        np.testing.assert_array_equal(column(simulated, "click") == 1, simulated.clicked)

    def test_a_seed_decides_everything(self, simulated):
        spec = parse_spec(default_spec(4, 10))
        again = simulate_log(spec, SIZE, RATES)
        assert again.log == simulated.log
        assert again.truth == simulated.truth
        other = simulate_log(spec, WorldSize(SIZE.rows, SIZE.users, SIZE.items, seed=1), RATES)
        assert not other.truth.equals(simulated.truth)

    def test_interest_does_not_depend_on_noise(self, simulated):
        clean = simulate_log(parse_spec(default_spec(4, 10)), SIZE, (0.0,) * 4)
        assert not truth(clean, "is_noise").any()
        interested = simulated.clicked & ~truth(simulated, "is_noise")
        np.testing.assert_array_equal(clean.clicked, interested)

    def test_summary(self, simulated):
        summary = simulated.summary()
        assert summary["rows"] == SIZE.rows
        assert summary["click_rate"] == pytest.approx(simulated.clicked.mean())
        assert sum(group["rows"] for group in summary["groups"]) == SIZE.rows
        found = [group["noise_rate"] for group in summary["groups"]]
        np.testing.assert_allclose(found, RATES, atol=0.02)


class TestShapeOfASpec:
    def test_columns_of_ones_own(self):
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
        assert (
            truth(log, "is_noise")[complaints].mean() > truth(log, "is_noise")[log.clicked].mean()
        )
        wanted = [cell.split(",") for cell in column(log, "wanted") if cell]
        assert max(map(len, wanted)) == 5
        assert {int(item) for cell in wanted for item in cell} <= set(range(SIZE.items))

    def test_a_user_or_an_item_has_one_value(self):
        log = simulate_log(parse_spec(MINE), SIZE, (0.1, 0.4)).log.to_pylist()
        for key, name in {"tier": "uid", "uid_trust": "uid", "sku_color": "sku"}.items():
            pairs = {(row[name], str(row[key])) for row in log}
            assert len(pairs) == len({value for value, _ in pairs}), key

    def test_days_begin_at_the_offset(self):
        log = simulate_log(parse_spec(MINE), SIZE, (0.1, 0.4))
        local = column(log, "shown_at") + int(5.5 * 3600)
        days = {datetime.datetime.fromtimestamp(t, datetime.UTC).date() for t in local.tolist()}
        assert (min(days), max(days)) == (datetime.date(2024, 3, 1), datetime.date(2024, 3, 10))

    def test_the_real_log(self, tmp_path):
        path = spec_path("kuairand")
        spec = read_spec(path)
        log = simulate_log(spec, WorldSize(3_000, 200, 100), RATES)
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
    def test_counted_activity(self, count):
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

    def test_groups_by_quantiles_of_training_rows(self):
        text = MINE.replace('"identity", num_values = 2', '"buckets", quantiles = 3')
        log = simulate_log(parse_spec(text), SIZE, (0.0, 0.2, 0.4))
        tier = column(log, "tier")
        days = (column(log, "shown_at") + int(5.5 * 3600)) // 86_400
        training = np.sort(tier[days < days.max() - 1])
        edges = [training[len(training) * j // 3] for j in (1, 2)]
        np.testing.assert_array_equal(np.searchsorted(edges, tier, side="right"), log.group)

    def test_shown_lists(self):
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
        flags = [
            item in chosen for cell, chosen in zip(shown, clicked, strict=True) for item in cell
        ]
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
    def test_days_as_the_log_has_them(self, changes, first, last):
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
                "as 20220504, '2022-05-04' or plain numbers. Received: 'march",
            ),
            (
                'encoding = "identity", num_values = 2',
                'encoding = "buckets", boundaries = [0.2, 0.4]',
                "no integer lies in bucket 1",
            ),
        ],
    )
    def test_what_cannot_be_simulated(self, old, new, message):
        rates = (0.1, 0.2, 0.3) if "buckets" in new else (0.1, 0.2)
        with pytest.raises(ValueError, match=message):
            simulate_log(parse_spec(MINE.replace(old, new)), SIZE, rates, days=10)

    def test_sizes(self):
        with pytest.raises(ValueError, match="`items` must be >= 8. Received: items=2."):
            WorldSize(items=2)
        with pytest.raises(ValueError, match="at least 3 days"):
            default_spec(4, 2)
        with pytest.raises(ValueError, match="in \\[0, 1\\). Received: \\[1.0\\]"):
            simulate_log(parse_spec(default_spec(1, 3)), SIZE, [1.0])
        least = simulate_log(parse_spec(default_spec(1, 3)), WorldSize(1, 1, 8, 1), [0.5])
        assert least.log.num_rows == 1


class TestFiles:
    @pytest.mark.parametrize(
        ("pattern", "csv", "expected"),
        [
            ("*", False, "log.parquet"),
            ("*", True, "log.csv.gz"),
            ("log.*", True, "log.csv.gz"),
            ("*.jsonl", False, "log.jsonl"),
            ("log_pure.csv*", False, "log_pure.csv"),
            ("clicks.csv.gz", False, "clicks.csv.gz"),
            ("part-*.parquet", True, "part-0.parquet"),
            ("days/2024-??.parquet", False, "days/2024-00.parquet"),
        ],
    )
    def test_names(self, pattern, csv, expected):
        suffixes = [".csv.gz", ".parquet"] if csv else [".parquet", ".csv.gz"]
        assert file_name(pattern, "log", [*suffixes, ".jsonl"]) == expected

    def test_unknown_format(self):
        with pytest.raises(ValueError, match="cannot be written as 'log.avro'. Expected a name"):
            file_name("log.avro", "log", [".parquet"])

    def test_the_directory_appears_whole_or_not_at_all(self, tmp_path, monkeypatch):
        text = default_spec(4, 10)
        spec = parse_spec(text)
        log = simulate_log(spec, WorldSize(500, 50, 20), RATES)
        target = tmp_path / "deep" / "log"
        assert write_simulation(log, spec, text, target) == {
            "log.parquet": 500,
            "truth/truth.parquet": 500,
        }
        assert read_spec(target / "spec.toml") == spec
        with pytest.raises(FileExistsError, match="Give --overwrite to replace it"):
            write_simulation(log, spec, text, target)

        def fail(table, path):
            raise OSError("The disk is full.")

        before = sorted(target.rglob("*"))
        monkeypatch.setattr("data_pipeline.simulated_files._write", fail)
        for directory in (target, tmp_path / "other"):
            with pytest.raises(OSError, match="disk is full"):
                write_simulation(log, spec, text, directory, overwrite=True)
        monkeypatch.undo()
        assert sorted(target.rglob("*")) == before
        assert [path.name for path in tmp_path.iterdir()] == ["deep"]

        write_simulation(log, spec, text, target, csv=True, overwrite=True)
        assert not (target / "log.parquet").exists()
        in_csv = pacsv.read_csv(
            target / "log.csv.gz",
            convert_options=pacsv.ConvertOptions(
                strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        for name in log.log.column_names:
            cells = in_csv[name].to_pylist()
            expected = log.log[name].to_pylist()
            assert (
                cells == pytest.approx(expected)
                if name in ("latency", "item_price")
                else cells == expected
            )

    def test_other_files_are_never_replaced(self, tmp_path):
        text = default_spec(4, 10)
        spec = parse_spec(text)
        log = simulate_log(spec, WorldSize(500, 50, 20), RATES)
        (tmp_path / "thesis.tex").write_text("precious")
        with pytest.raises(FileExistsError, match="holds other files"):
            write_simulation(log, spec, text, tmp_path, overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_no_spec_names_the_truth(self):
        text = default_spec(4, 10)
        names = {"truth", "interest_probability", "is_noise", "noise_rate"}
        assert not any(name in text for name in names)
        log = simulate_log(parse_spec(text), WorldSize(500, 50, 20), RATES)
        assert not names & set(log.log.column_names)


class TestCommand:
    def run(self, *arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "data_pipeline.simulate", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_results(self, tmp_path):
        ran = self.run(f"--output_dir={tmp_path / 'log'}", "--rows=800", "--noise_rates=.1,.3")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[-1] == str(tmp_path / "log" / "results.json")
        results = json.loads((tmp_path / "log" / "results.json").read_text())
        assert set(results) == {"command", "config", "metrics"}
        assert results["config"]["noise_rates"] == [0.1, 0.3]
        assert results["metrics"]["files"]["log.parquet"] == 800
        assert len(results["metrics"]["groups"]) == 2
        assert read_spec(tmp_path / "log" / "spec.toml").group.boundaries == (15.0,)
        assert pq.read_table(tmp_path / "log" / "log.parquet").num_rows == 800

    def test_errors(self, tmp_path):
        unknown = self.run(f"--output_dir={tmp_path / 'log'}", "--spec=kuairandom")
        assert unknown.returncode == 1
        assert unknown.stderr.splitlines() == [
            "There is no spec 'kuairandom'. Give the path of a TOML file, or the name of a ready "
            "spec: kuairand, movielens."
        ]
        wrong = self.run(f"--output_dir={tmp_path / 'log'}", "--noise_rates=.1,1.5")
        assert wrong.returncode == 2
        assert "must be numbers in [0, 1)" in wrong.stderr
        assert list(tmp_path.iterdir()) == []
