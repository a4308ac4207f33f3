"""The benchmark: summaries by hand, the driver on workers that are quick to start, its report."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.csv as pa_csv
import pytest
import tensorflow as tf

from clsd_tf import ClickConfidenceModel, ModelFeature, get_backbone
from clsd_tf.optimizers import SparseAdagrad
from experiments.benchmarks.click_log import LogSize, log_tables, make_log, spec_text
from experiments.benchmarks.contenders import Comparison, Contender, Target
from experiments.benchmarks.driver import Measured, measure
from experiments.benchmarks.environments import environment_names, make_environment, python_of
from experiments.benchmarks.floors import (
    MachineRates,
    dense_floor,
    read_floor,
    rows_floor,
    stack_multiplications,
)
from experiments.benchmarks.report import metrics, table
from experiments.benchmarks.stages.train import DEFAULT_SIZES
from experiments.benchmarks.step_floors import Read, multiplications, read_of, tables_of
from experiments.benchmarks.summaries import Spread, digits, growth_exponent, outcome, sample
from experiments.benchmarks.worker_process import WORKERS, WorkerError, WorkerProcess


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


class TestFloors:
    rates = MachineRates(flops=6e9, copied_bytes=2e6, rows=1e7, scalars=4e7)

    def test_by_hand(self):
        assert stack_multiplications([4, 3, 2]) == 18
        assert dense_floor(1000, self.rates) == pytest.approx(1.0)  # 6000 operations
        assert read_floor(100, self.rates) == pytest.approx(100.0)  # 200 bytes
        # 20 rows, each in a table of vectors, .1 us, and in two of numbers, .025 us
        assert rows_floor(20, self.rates, rows=1, scalars=2) == pytest.approx(3.0)

    def test_what_repeats_in_a_batch_is_read_once_and_padding_is_no_element(self, arrays):
        # Two batches of `item`, all different, and 5 of 15 that are not whole; `past` is padding
        # but for one item of the second batch, and 0 is an item of the first batch alone.
        past = np.zeros((40_000, 3), np.int32)
        past[20_000, :2] = 20_007
        np.save(arrays / "past.npy", past)
        assert read_of(str(arrays), 20_000, lists=False) == Read(1, 1, 0.0, 1.0)
        assert read_of(str(arrays), 20_000, lists=True) == Read(
            1, 2, pytest.approx(2 / 40_000), pytest.approx(40_001 / 40_000)
        )
        assert read_of(str(arrays), 15_000, lists=False).rows == pytest.approx(1.0)

    def test_products_of_a_step_by_hand(self):
        sizes = {"dim": 2, "units": [3], "num_cross_layers": 2, "attention_units": [5]}
        assert multiplications("mlp", 7, sizes) == 7 * 3 + 3
        assert multiplications("dcn_v2", 7, sizes) == 7 * 3 + 3 + 2 * 49 + 7
        pairs = 2 * 5 + 1.5 * (2 * 5 + 5)
        assert multiplications("din", 7, sizes, elements=1.5) == 7 * 3 + 3 + pairs

    @pytest.mark.parametrize("kept", ["rows", "scalars"])
    @pytest.mark.parametrize("name", ["mlp", "deepfm", "dcn_v2"])
    def test_tables_are_those_of_backbone_and_optimizer(self, name, kept):
        item = ModelFeature("item", "categorical", cardinality=9, table="item", role="item")
        model = ClickConfidenceModel(get_backbone(name, [item]))
        model.compile(SparseAdagrad() if kept == "rows" else None)
        batch = tf.data.Dataset.from_tensors(({"item": tf.constant([1, 2])}, tf.zeros([2])))
        model.fit(batch, verbose=0)
        optimizers = getattr(model.optimizer, "optimizers", [model.optimizer])
        state = [v for each in optimizers for v in each.variables]
        tables = [v.shape for v in (*model.trainable_weights, *state) if v.shape[:1] == [9]]
        found = collections.Counter(
            "rows" if shape.num_elements() > 9 else "scalars" for shape in tables
        )
        assert found == tables_of(name, kept)

    def test_a_target_that_a_floor_forbids_is_told(self):
        contenders = (Contender("own", ""), Contender("peer", ""))
        targets = Target("peer", "own", 3.0, "at least"), Target("peer", "own", 2.0, "at least")
        samples = {"own": [{"cpu_us": 8.0}], "peer": [{"cpu_us": 10.0}]}
        found = [outcome(target, samples) for target in targets]
        floors = {"products": 1.0, "products and rows": 4.0}
        comparison = Comparison("train", "a test", contenders, targets, floors=floors)
        measured = Measured(comparison, samples, {}, {}, found)
        forbidden, missed = table([measured]).splitlines()[-2:]
        assert forbidden.endswith("| **no**; 2.5 at the floor |")
        assert missed.endswith("| **no** |")
        told = metrics([measured])["comparisons"][0]["outcomes"]
        assert [each["at_the_floor"] for each in told] == [2.5, 2.5]


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


@pytest.fixture
def arrays(tmp_path) -> pathlib.Path:
    """Encoded rows as `workers/arrays.py` describes them."""
    directory = tmp_path / "arrays"
    directory.mkdir()
    columns = [
        {"name": "item", "kind": "categorical", "cardinality": 9, "length": None, "table": "item"},
        {"name": "past", "kind": "categorical", "cardinality": 9, "length": 3, "table": "item"},
        {"name": "x", "kind": "numeric", "cardinality": 0, "length": None},
    ]
    (directory / "columns.json").write_text(json.dumps(columns))
    rows = 40_000
    np.save(directory / "item.npy", np.arange(rows, dtype=np.int32))
    np.save(directory / "past.npy", np.zeros((rows, 3), np.int32))
    np.save(directory / "x.npy", np.zeros(rows, np.float32))
    np.save(directory / "_label.npy", np.zeros(rows, np.float32))
    return directory


def test_contenders_run_in_turns_and_failures_are_told(tmp_path, arrays):
    options = {"arrays": str(arrays), "batch_size": 500, "tensors": False}
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


def test_a_preparation_of_arrays_alone_writes_what_the_log_says(tmp_path):
    size = LogSize(rows=3000, categorical=3, numeric=2, vocabulary=50, history=4)
    log = make_log(tmp_path, size)
    options = {"log": str(log), "rows": 3000, "history": 4, "output_dir": str(tmp_path / "out")}
    with _worker("bare_prepare", tmp_path) as worker:
        worker.prepare(options)
        assert worker.run(1)["examples"] == 3000
    table_of_log = pa_csv.read_csv(log / "log.csv")
    raw = {name: table_of_log[name].to_pylist() for name in table_of_log.column_names}
    expected = []
    for name in ("user_id", "item_id", "c02"):
        counts = collections.Counter(raw[name][:2400])
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        ids = {token: number for number, token in enumerate(ranked, start=2)}
        expected.append([ids.get(token, 1) for token in raw[name]])
    past: dict[int, list[int]] = collections.defaultdict(list)
    lists = []
    for user, item, click in zip(raw["user_id"], expected[1], raw["click"], strict=True):
        recent = past[user][-4:]
        lists.append((*recent, *[0] * (4 - len(recent))))
        past[user] += [item] * click
    rows = [tuple(row) for row in zip(*expected, raw["click"], lists, strict=True)]

    written = np.fromfile(tmp_path / "out" / "rows.bin", np.int32)
    columns, clicks = written[: 5 * 3000].reshape(5, -1), written[5 * 3000 : 6 * 3000]
    received_lists = map(tuple, written[6 * 3000 :].reshape(3000, 4).tolist())
    received = [*zip(*columns[:3].tolist(), clicks.tolist(), received_lists, strict=True)]
    assert received[2400:] == rows[2400:]  # of the test split, in order
    assert received[:2400] != rows[:2400]
    assert collections.Counter(received[:2400]) == collections.Counter(rows[:2400])
    numbers = columns[3:].view(np.float32)
    for name, values in zip(("x0", "x1"), numbers, strict=True):
        train = np.array(raw[name][:2400])
        scaled = (np.array(raw[name]) - train.mean()) / train.std()
        np.testing.assert_allclose(values[2400:], scaled[2400:], atol=1e-4)
        np.testing.assert_allclose(np.sort(values[:2400]), np.sort(scaled[:2400]), atol=1e-4)


def test_parquet_looks_at_its_checksums_where_it_is_asked_to(tmp_path, arrays):
    options = {"arrays": str(arrays), "batch_size": 500, "tensors": False}
    with _worker("parquet_read", tmp_path) as worker:
        worker.prepare({**options, "checked": True})
        assert worker.run(3)["examples"] == 1500
    (file,) = arrays.glob("*.parquet")
    damaged = bytearray(file.read_bytes())
    place = damaged.index(np.arange(100, 200, dtype=np.int32).tobytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)
    for checked in (False, True):
        with _worker("parquet_read", tmp_path) as worker:
            worker.prepare({**options, "checked": checked})
            if checked:
                with pytest.raises(WorkerError, match="(?i)crc"):
                    worker.run(80)  # all row groups
            else:
                worker.run(80)


def test_rates_of_the_machine(tmp_path):
    options = {"rows": 64, "inner": 8, "columns": 3, "vocabulary": 50, "dim": 4}
    with _worker("machine_rates", tmp_path) as worker:
        worker.prepare(options)
        answer = worker.run(5)
    rates = {field.name: answer[field.name] for field in dataclasses.fields(MachineRates)}
    assert all(1e3 < rate < 1e15 for rate in rates.values())


def _worker(name: str, directory: pathlib.Path) -> WorkerProcess:
    return WorkerProcess(pathlib.Path(sys.executable), WORKERS / f"{name}.py", directory / "log")


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
        benchmark.terminate()
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    assert workers
    assert not [pid for pid in workers if pathlib.Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("name", ["mlp", "deepfm", "dcn_v2", "din"])
def test_the_floor_of_the_default_sizes_is_of_what_the_backbones_have(name):
    item = {"cardinality": 9, "table": "item"}
    features = [
        ModelFeature("item", "categorical", **item, role="item"),
        ModelFeature("past", "categorical", **item, length=2),
    ]
    assert features[0].dim == DEFAULT_SIZES["dim"]
    backbone = get_backbone(name, features)
    sizes = {size: DEFAULT_SIZES[size] for size in DEFAULT_SIZES if hasattr(backbone, size)}
    assert "units" in sizes
    assert {size: list(np.atleast_1d(getattr(backbone, size))) for size in sizes} == {
        size: list(np.atleast_1d(value)) for size, value in sizes.items()
    }


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
