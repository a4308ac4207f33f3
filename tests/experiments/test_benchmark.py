"""The benchmark: summaries by hand, the driver on workers that are quick to start, its report."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.benchmarks.click_log import LogSize, log_tables, spec_text
from experiments.benchmarks.contenders import Comparison, Contender, Target
from experiments.benchmarks.driver import measure
from experiments.benchmarks.environments import environment_names, make_environment, python_of
from experiments.benchmarks.report import metrics, table
from experiments.benchmarks.summaries import Spread, digits, growth_exponent, outcome, sample


class TestSummaries:
    def test_a_sample_is_per_example(self):
        answer = {"examples": 4, "cpu_seconds": 2e-6, "wall_seconds": 0.5, "peak_bytes": 2**21}
        assert sample({**answer, "p99_ms": 3.0}) == {
            "cpu_us": 0.5,
            "per_second": 8.0,
            "peak_mb": 2.0,
            "p99_ms": 3.0,
        }

    def test_a_spread_is_median_and_range(self):
        assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
        assert str(Spread.of([3.0, 1.0, 2.0])) == "2 (1 to 3)"
        with pytest.raises(ValueError, match="at least one repetition"):
            Spread.of([])

    def test_ratios_divide_what_ran_in_the_same_round(self):
        # The machine was twice as slow in the second round, for both.
        samples = {"a": [{"cpu_us": 3.0}, {"cpu_us": 6.0}], "b": [{"cpu_us": 1.0}, {"cpu_us": 2.0}]}
        found = outcome(Target("a", "b", 3, "at least"), samples)
        assert (found.ratio, found.reached) == (Spread(3.0, 3.0, 3.0), True)
        assert outcome(Target("a", "b", 2.9, "at most"), samples).reached is False
        assert outcome(Target("a", "b"), samples).reached is None

    def test_a_single_measure_is_scaled(self):
        found = outcome(
            Target("a", None, 5, "at most", "p99_ms", scale=2.0), {"a": [{"p99_ms": 3.0}]}
        )
        assert (found.ratio.median, found.reached) == (6.0, False)

    def test_there_is_no_outcome_without_a_contender(self):
        assert outcome(Target("a", "b"), {"a": [{"cpu_us": 1.0}]}) is None

    def test_growth(self):
        sizes = [100, 200, 400]
        assert growth_exponent(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)
        with pytest.raises(ValueError, match="two different sizes"):
            growth_exponent([5, 5], [1, 2])

    def test_three_digits(self):
        numbers = (0.0, 0.00012, 0.1234, 12.345, 123456.7)
        assert [digits(n) for n in numbers] == ["0", "1.2e-04", "0.123", "12.3", "123,457"]


class TestLog:
    size = LogSize(rows=3000, categorical=3, numeric=2, vocabulary=50, history=4)

    def test_rows_are_as_the_spec_says_and_repeat(self):
        first, again = (next(log_tables(self.size)) for _ in range(2))
        assert first.equals(again)
        assert first.num_rows == 3000
        assert set(first.column_names) == {
            *("user_id", "item_id", "c02", "x0", "x1", "segment", "click", "time_ms")
        }
        assert all(name in spec_text(self.size) for name in first.column_names)

    def test_ids_have_heads_and_tails_and_clicks_follow_the_rows(self):
        rows = next(log_tables(self.size))
        items = np.bincount(rows["item_id"].to_numpy(), minlength=50)
        assert items[:10].sum() > items[25:].sum() > 0
        clicks = rows["click"].to_numpy()
        product = rows["x0"].to_numpy() * rows["x1"].to_numpy()
        assert np.corrcoef(clicks, product)[0, 1] > 0.1


def test_contenders_run_in_turns_and_failures_are_told(tmp_path, encoded_arrays):
    options = {"arrays": str(encoded_arrays), "batch_size": 500, "tensors": False}
    comparison = Comparison(
        "read",
        "a test",
        (
            Contender("one", "parquet_read", options, steps=7),
            Contender("two", "parquet_read", options, steps=14),
            Contender("absent", "parquet_read", options, environment="torch"),
            Contender("lost", "parquet_read", {**options, "arrays": str(tmp_path / "nowhere")}),
        ),
        (Target("two", "one", 100, "at most"), Target("absent", "one", 1, "at least")),
    )
    done: list[str] = []
    measured = measure(
        comparison,
        repetitions=2,
        environments=tmp_path / "environments",
        logs=tmp_path / "logs",
        progress=done.append,
    )
    rounds = [text.rpartition(": ")[2] for text in done if "round" in text]
    assert rounds == ["one", "two", "two", "one"]
    assert set(measured.samples) == {"one", "two"}
    assert [len(each) for each in measured.samples.values()] == [2, 2]
    assert all(s["cpu_us"] > 0 and s["peak_mb"] > 1 for s in measured.samples["one"])
    assert "experiments.benchmark_environments" in measured.skipped["absent"]
    assert "nowhere" in measured.skipped["lost"]
    assert [found.target.over for found in measured.outcomes] == ["two"]

    text = table([measured])
    assert "| absent | skipped: no environment 'torch'" in text
    assert "| cpu_us: two / one at most 100 |" in text
    entry = json.loads(json.dumps(metrics([measured])))["comparisons"][0]
    assert entry["contenders"]["one"]["samples"] == measured.samples["one"]


def test_a_benchmark_that_is_told_to_end_ends_its_workers(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", f"--output_dir={tmp_path}"]
    with subprocess.Popen(
        [*command, "--only=read", "--rows=1000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=pathlib.Path(__file__).parents[2],
    ) as benchmark:
        children = pathlib.Path(f"/proc/{benchmark.pid}/task/{benchmark.pid}/children")
        until = time.monotonic() + 60
        while not (workers := children.read_text().split()) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # so that the benchmark knows of it; the worker needs longer to get ready
        benchmark.terminate()
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    assert workers
    assert not [pid for pid in workers if pathlib.Path(f"/proc/{pid}").exists()]


def test_environments_are_pinned_and_told_when_stale(tmp_path):
    assert {"deepctr", "grain", "keras3", "torch"} <= set(environment_names())
    for name in environment_names():
        with pytest.raises(LookupError, match="no environment"):
            python_of(tmp_path, name)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "requirements.installed").write_text("torch==1.0\n")
    with pytest.raises(LookupError, match="other versions"):
        python_of(tmp_path, "torch")


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.environments._REQUIREMENTS", tmp_path)
    (tmp_path / "broken.txt").write_text("./no_such_directory\n")
    with pytest.raises(RuntimeError, match="no_such_directory"):
        make_environment(tmp_path / "environments", "broken")
    with pytest.raises(LookupError, match="no environment 'broken'"):
        python_of(tmp_path / "environments", "broken")


def test_a_command_costs_what_its_process_took(tmp_path):
    program = "x = bytearray(50_000_000); import time; time.sleep(0.2); sum(range(2_000_000))"
    comparison = Comparison(
        "startup",
        "a test",
        (
            Contender("busy", "command_worker", {"arguments": ["-c", program], "examples": 1}),
            Contender("failing", "command_worker", {"arguments": ["-c", "exit(3)"], "examples": 1}),
        ),
        warm_up=0,
    )
    measured = measure(
        comparison,
        repetitions=1,
        environments=tmp_path,
        logs=tmp_path / "logs",
        progress=lambda text: None,
    )
    (one,) = measured.samples["busy"]
    assert one["cpu_us"] > 10_000
    assert one["peak_mb"] > 48
    assert "status 3" in measured.skipped["failing"]
