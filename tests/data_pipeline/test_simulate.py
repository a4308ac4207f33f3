from __future__ import annotations

import datetime
import json
import subprocess
import sys

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from clsd_tf.spec import parse_spec, read_spec
from data_pipeline.simulated_files import file_name, write_simulation
from data_pipeline.simulated_log import SimulatedLog, simulate_log
from data_pipeline.simulated_spec import default_spec
from data_pipeline.simulation import WorldSize

RATES = (0.05, 0.10, 0.20, 0.35)
SIZE = WorldSize(rows=60_000, users=1_000, items=400)


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

    def test_noise_can_fall_with_interest(self, simulated):
        spec = parse_spec(default_spec(4, 10))
        falling = simulate_log(spec, SIZE, RATES, interest_noise=0.4)
        interest = truth(falling, "interest_probability")
        np.testing.assert_array_equal(interest, truth(simulated, "interest_probability"))
        rate, noise = truth(falling, "noise_rate"), truth(falling, "is_noise")
        np.testing.assert_allclose(rate, 0.4 * (1 - interest), rtol=1e-6)
        uninterested = ~falling.clicked | noise
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4)):
            rows = uninterested & (low <= rate) & (rate < high)
            error = 4 * np.sqrt(high * (1 - high) / rows.sum())
            assert abs(noise[rows].mean() - rate[rows].mean()) < error

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
        with pytest.raises(
            ValueError, match="Received: input.files = 'log.avro'. Expected: a name"
        ):
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
            "There is no such spec. Received: 'kuairandom'. Expected: the path of a TOML file, or "
            "the name of a ready spec: kuairand, movielens."
        ]
        wrong = self.run(f"--output_dir={tmp_path / 'log'}", "--noise_rates=.1,1.5")
        assert wrong.returncode == 2
        assert "must be numbers in [0, 1)" in wrong.stderr
        wrong = self.run(f"--output_dir={tmp_path / 'log'}", "--noise=items:.1:.4")
        assert wrong.returncode == 2
        assert "Expected: interest:RATE, or --noise_rates" in wrong.stderr
        assert list(tmp_path.iterdir()) == []
