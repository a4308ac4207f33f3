"""The whole way from log files to shards: golden values, leaks, determinism, atomicity."""

from __future__ import annotations

import csv
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from clsd_tf.encoding import Encoder
from data_pipeline import data_set, preparation
from data_pipeline.data_set import WriteOptions
from data_pipeline.integrity import verify
from data_pipeline.manifest import Manifest
from data_pipeline.noise_base import NoiseError
from data_pipeline.noise_kinds import parse_noise
from data_pipeline.preparation import ReadOptions, prepare
from data_pipeline.reader import make_dataset
from data_pipeline.shards import WRITER_BYTES
from data_pipeline.splits import SPLITS, SplitError
from tests.marks import slow

SPEC = """
name = "small"
[split]
day_column = "date"
train_from = 2
valid_from = 4
test_from = 5
[history]
length = 2
[activity]
boundaries = [2.0]
[columns]
user = { role = "user", type = "int", encoding = "vocabulary" }
item = { role = "item", type = "string", encoding = "vocabulary" }
city = { type = "string", encoding = "vocabulary", default = "X" }
price = { type = "float", encoding = "numeric", scaling = "standard" }
size = { source = "price", type = "float", encoding = "buckets", quantiles = 4 }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int" }
date = { role = "ignore", type = "int" }
liked = { role = "satisfaction", type = "int" }
"""
HEADER = ("date", "user", "item", "time", "click", "city", "price", "liked")
START = 1_650_000_000_000
GOLDEN = [
    (1, 7, "a", START + 100, 1, "", 1.0, 0),
    (1, 7, "b", START + 110, 0, "X", 1.0, 0),
    (2, 7, "b", START + 200, 1, "X", 1.0, 1),
    (2, 8, "a", START + 200, 0, "", 3.0, 0),
    (3, 7, "a", START + 300, 1, "Y", 3.0, ""),
    (3, 8, "b", START + 310, 1, "X", 1.0, 0),
    (4, 7, "c", START + 400, 0, "Z", 5.0, 0),
    (5, 9, "a", START + 500, 1, "Y", "", 1),
]
ONE_THREAD = ReadOptions(threads=1)
NOISE = WriteOptions(noise_rates=(0.2, 0.6), num_shards=2, block_rows=16)


def random_log(num_rows: int, seed: int) -> list[tuple]:
    """Five days of few users, with ties, missing values and rare items."""
    rng = random.Random(seed)
    times = sorted(rng.randrange(num_rows) for _ in range(num_rows))
    return [
        (
            1 + 5 * time // num_rows,
            rng.randrange(20),
            f"i{int(rng.expovariate(0.2))}",
            START + time,
            rng.randrange(2),
            rng.choice(["", "X", "Y", "Z"]),
            rng.choice(["", 1.5, round(rng.expovariate(0.1), 2)]),
            rng.randrange(2),
        )
        for time in times
    ]


class Logs:
    """Logs and data sets in a directory."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.spec = directory / "spec.toml"
        self.spec.write_text(SPEC, encoding="utf-8")

    def write(self, rows: list[tuple], name: str = "log") -> pathlib.Path:
        path = self.directory / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])
        return path

    def prepare(
        self,
        rows: list[tuple],
        name: str = "prepared",
        write: WriteOptions = WriteOptions(),  # noqa: B008
        read: ReadOptions = ONE_THREAD,
        **options: bool,
    ) -> pathlib.Path:
        target = self.directory / name
        log = self.write(rows, name)
        prepare(str(self.spec), str(log), target, read, write, **options)
        return target


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)


def contents(directory: pathlib.Path, pattern: str) -> dict[str, bytes]:
    """Every file that matches, and that there is one."""
    files = (path for path in directory.rglob(pattern) if path.is_file())
    found = {str(path.relative_to(directory)): path.read_bytes() for path in files}
    assert found
    return found


def read(directory: pathlib.Path, split: str) -> dict[str, list]:
    """A split in the order of `_row`."""
    batches = list(make_dataset(directory, split, 1000, extra_columns=["_row", "liked"]))
    parts = [{**features, "label": label, "weight": weight} for features, label, weight in batches]
    columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    order = np.argsort(columns["_row"])
    return {name: values[order].tolist() for name, values in columns.items()}


class TestGolden:
    @pytest.mark.parametrize("layout", ["columnar", "row"])
    def test_rows(self, logs, layout):
        directory = logs.prepare(GOLDEN, write=WriteOptions(layout=layout))
        train = read(directory, "train")
        users = train.pop("_user")
        assert users[0] == users[2] != users[1] == users[3]
        # Out of vocabulary is 1, the most frequent token 2.
        assert train == {
            "_row": [2, 3, 4, 5],
            "user": [2, 3, 2, 3],
            "item": [3, 2, 2, 3],
            "city": [2, 2, 3, 2],
            "price": [-1.0, 1.0, 1.0, -1.0],
            "size": [1, 2, 2, 1],
            "click_history": [[2, 0], [0, 0], [2, 3], [0, 0]],
            "_group": [1, 0, 1, 0],
            "label": [1, 0, 1, 1],
            "weight": [1, 1, 1, 1],
            "liked": [1, 0, pytest.approx(float("nan"), nan_ok=True), 0],
        }
        valid, test = read(directory, "valid"), read(directory, "test")
        assert (valid["user"], valid["item"], valid["city"], valid["price"]) == ([2], [1], [1], [3])
        assert (valid["click_history"], valid["_group"]) == ([[3, 2]], [1])
        assert (test["user"], test["item"], test["city"], test["price"]) == ([1], [2], [3], [0])
        assert (test["click_history"], test["_group"], test["size"]) == ([[0, 0]], [0], [0])

    def test_files(self, logs):
        directory = logs.prepare(GOLDEN)
        assert (directory / "spec.toml").read_text() == SPEC
        assert (directory / "vocab" / "user.txt").read_text() == "7\n8\n"
        assert (directory / "vocab" / "item.txt").read_text() == "a\nb\n"
        assert (directory / "vocab" / "city.txt").read_text() == "X\nY\n"
        assert json.loads((directory / "encoding.json").read_text()) == {
            "vocabulary_sizes": {"user": 2, "item": 2, "city": 2},
            "boundaries": {"size": [3.0]},
            "moments": {"price": [2.0, 1.0]},
        }
        manifest = Manifest.load(directory)
        assert manifest.rows == {"train": 4, "valid": 1, "test": 1}
        assert manifest.source[0]["bytes"] == (logs.directory / "prepared.csv").stat().st_size
        assert manifest.noise is None
        assert manifest.prepared["input"] == str(logs.directory / "prepared.csv")
        assert manifest.prepared["read"] == ONE_THREAD.decisive()
        verify(directory)
        assert not (directory / "truth").exists()
        assert not (directory / "engine").exists()
        assert Encoder.load(directory).group_names() == ["<2", ">=2"]
        keys = pq.read_table(directory / "keys" / "valid-00000-of-00001.parquet").to_pylist()
        expected = {"_row": 6, "user": 7, "item": "c", "time": START + 400, "_day": "4"}
        assert keys == [expected]

    def test_statistics(self, logs):
        statistics = json.loads((logs.prepare(GOLDEN) / "stats.json").read_text())
        assert (statistics["rows_read"], statistics["users"], statistics["items"]) == (8, 3, 3)
        assert statistics["splits"]["train"] == {"rows": 4, "clicks": 3, "ctr": 0.75}
        assert statistics["splits"]["history"] == {"rows": 2, "clicks": 1, "ctr": 0.5}
        assert statistics["days"]["2"] == {"rows": 2, "clicks": 1, "ctr": 0.5}
        assert statistics["groups"][">=2"]["train"] == {"rows": 2, "clicks": 2, "ctr": 1.0}
        assert set(statistics["groups"]["<2"]) == {"train", "test"}
        rates = statistics["oov_rates"]
        assert rates["user"] == {"train": 0, "valid": 0, "test": 1}
        assert rates["city"] == {"train": 0, "valid": 1, "test": 0}
        # Empty histories have no values to be known.
        assert rates["click_history"] == {"train": 0, "valid": 0}
        lengths = statistics["history_lengths"]
        assert lengths["train"] == {"mean": 0.75, "empty": 0.5, "full": 0.25}

    def test_days_can_be_left_out(self, logs):
        directory = logs.prepare(GOLDEN, read=ReadOptions(first_day="1", last_day="3"))
        assert Manifest.load(directory).rows == {"train": 4, "valid": 0, "test": 0}


def test_columns_may_have_any_name(logs):
    """Also those that tables on the way might be given."""
    names = ["number", "token", "count", "rows", "items", "is_noise", "split", "activity_right"]
    names += ["rowid", "file_index", "filename", "column0"]
    options = 'source = "user", type = "int", encoding = "vocabulary"'
    extra = [f"{name} = {{ {options} }}" for name in names]
    extra.append(f'value = {{ role = "group", {options} }}')
    spec = SPEC.replace("[activity]\nboundaries = [2.0]\n", "") + "\n".join(extra)
    logs.spec.write_text(spec, encoding="utf-8")
    directory = logs.prepare(GOLDEN, write=WriteOptions(noise_rates=(1.0,)))
    train = read(directory, "train")
    # The group by vocabulary: other, 7, 8.
    assert train["_group"] == [1, 2, 1, 2]
    for name in names:
        assert train[name] == train["user"] == [2, 3, 2, 3]


class TestLeaks:
    LOG = random_log(400, seed=1)

    def learned(self, directory):
        return {
            **contents(directory, "vocab/*.txt"),
            **contents(directory, "encoding.json"),
            **contents(directory, "train-*.tfrecord"),
            **contents(directory, "keys/train-*.parquet"),
        }

    def test_test_rows_change_nothing_else(self, logs):
        expected = logs.prepare(self.LOG, "whole", NOISE)
        deleted = [row for row in self.LOG if row[0] < 5]
        changed = [
            (*row[:2], "new", row[3], 1 - row[4], "new", 1e6, 1) if row[0] == 5 else row
            for row in self.LOG
        ]
        for name, rows in (("deleted", deleted), ("changed", changed)):
            received = logs.prepare(rows, name, NOISE)
            assert self.learned(received) == self.learned(expected)
            assert contents(received, "valid-*.tfrecord") == contents(expected, "valid-*.tfrecord")

    def test_validation_rows_teach_nothing(self, logs):
        expected = logs.prepare(self.LOG, "whole", NOISE)
        changed = [
            (*row[:2], "new", row[3], 1 - row[4], "new", 1e6, 1) if row[0] == 4 else row
            for row in self.LOG
        ]
        assert self.learned(logs.prepare(changed, "changed", NOISE)) == self.learned(expected)

    def test_later_labels_change_no_earlier_history(self, logs):
        time = self.LOG[150][3]
        flipped = [(*row[:4], 1 - row[4], *row[5:]) if row[3] >= time else row for row in self.LOG]
        before = read(logs.prepare(self.LOG, "before"), "train")
        after = read(logs.prepare(flipped, "after"), "train")
        known = [place for place, row in enumerate(before["_row"]) if self.LOG[row][3] <= time]
        assert len(known) > 50
        for place in known:
            assert before["click_history"][place] == after["click_history"][place]
        assert before["click_history"] != after["click_history"]


class TestNoise:
    def test_labels_and_histories_see_the_noise_and_the_truth_tells_it(self, logs):
        log = random_log(400, seed=2)
        clean = logs.prepare(log, "clean", WriteOptions())
        noisy = logs.prepare(log, "noisy", WriteOptions(noise_rates=(1.0,)))
        truth = pq.read_table(noisy / "truth" / "noise.parquet").to_pylist()
        for split in ("train", "valid"):
            labels, before = read(noisy, split)["label"], read(clean, split)["label"]
            assert labels == [1.0] * len(before)
            flips = [row["is_noise"] for row in truth if row["split"] == split]
            assert flips == [label == 0 for label in before]
        assert read(noisy, "test")["label"] == read(clean, "test")["label"]
        assert read(noisy, "test")["click_history"] != read(clean, "test")["click_history"]
        assert Manifest.load(noisy).noise == {"rates": {"<2": 1.0, ">=2": 1.0}, "seed": 0}

    def test_each_group_has_its_rate(self, logs):
        log = random_log(400, seed=3)
        clean = read(logs.prepare(log, "clean"), "train")
        noisy = read(logs.prepare(log, "noisy", WriteOptions(noise_rates=(0.0, 1.0))), "train")
        for group, before, after in zip(
            clean["_group"], clean["label"], noisy["label"], strict=True
        ):
            assert after == (1 if group else before)

    @pytest.mark.parametrize("noise", ["items:.5:1", slow("where:city=X:1"), "interest:.9"])
    def test_other_kinds_reach_histories_and_leave_test_labels(self, logs, noise):
        log = random_log(400, seed=4)
        clean = logs.prepare(log, "clean")
        noisy = logs.prepare(log, "noisy", WriteOptions(noise=noise))
        truth = pq.read_table(noisy / "truth" / "noise.parquet").to_pylist()
        for split in ("train", "valid"):
            labels, before = read(noisy, split)["label"], read(clean, split)["label"]
            planted = [row["is_noise"] for row in truth if row["split"] == split]
            assert 0 < sum(planted) < before.count(0.0)
            assert labels == [max(b, p) for b, p in zip(before, planted, strict=True)]
        assert read(noisy, "test")["label"] == read(clean, "test")["label"]
        assert read(noisy, "test")["click_history"] != read(clean, "test")["click_history"]
        told = Manifest.load(noisy).noise
        assert (told["planted"], told["seed"]) == (str(parse_noise(noise)), 0)
        assert all(0 < rate < 1 for rate in told["rates"].values())

    def test_rates_of_groups_have_one_form(self):
        assert WriteOptions(noise="groups:.1,.2") == WriteOptions(noise_rates=(0.1, 0.2))
        assert WriteOptions(noise="items:.10:.4").noise == "items:0.1:0.4"
        with pytest.raises(NoiseError, match="One kind of noise .* Leave one of them out"):
            WriteOptions(noise="items:.1:.4", noise_rates=(0.1,))

    def test_another_number_of_rates_is_an_error(self, logs):
        with pytest.raises(NoiseError, match="Expected: 2, for the groups <2, >=2"):
            logs.prepare(GOLDEN, write=WriteOptions(noise_rates=(0.1, 0.2, 0.3)))


def test_rows_that_are_encoded_get_memory_of_the_engine(logs, monkeypatch):
    asked = []
    monkeypatch.setattr(data_set, "leave_room", lambda engine, size: asked.append(size))
    logs.prepare(random_log(50, seed=0), read=ReadOptions(threads=3))
    assert asked == [3 * WRITER_BYTES]


@pytest.mark.slow
def test_threads_change_no_byte(logs, tmp_path):
    """Enough rows for an engine to divide them among threads."""
    rng = np.random.default_rng(0)
    rows = 250_000
    seconds = np.sort(rng.integers(0, 100_000, rows))
    table = pa.table(
        {
            "date": 1 + 5 * seconds // 100_000,
            "user": rng.integers(0, 3000, rows),
            "item": rng.zipf(1.3, rows).clip(max=5000).astype(str),
            "time": START + 1000 * seconds,
            "click": rng.integers(0, 2, rows),
            "city": rng.choice(["", "X", "Y"], rows),
            "price": rng.lognormal(size=rows),
            "liked": rng.integers(0, 2, rows),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=20_000)
    written = []
    for threads in (1, 2):
        target = tmp_path / f"threads{threads}"
        options = ReadOptions(threads=threads)
        prepare(str(logs.spec), str(tmp_path / "log.parquet"), target, options, NOISE)
        written.append(contents(target, "*"))
    assert written[0].keys() == written[1].keys()
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []


def contents_below(directory):
    return sorted(path.name for path in directory.iterdir())


class TestAtomicity:
    @pytest.fixture
    def broken(self, monkeypatch):
        def fail(*_):
            raise OSError("no space left")

        monkeypatch.setattr(preparation, "write_schema", fail)

    def test_a_failure_leaves_nothing(self, logs, broken):
        with pytest.raises(OSError, match="no space left"):
            logs.prepare(GOLDEN)
        assert contents_below(logs.directory) == ["prepared.csv", "spec.toml"]

    def test_a_failure_leaves_the_earlier_data_set(self, logs, monkeypatch, request):
        before = contents(logs.prepare(GOLDEN), "*.json")
        request.getfixturevalue("broken")
        with pytest.raises(OSError, match="no space left"):
            logs.prepare(GOLDEN[1:], overwrite=True)
        assert contents(logs.directory / "prepared", "*.json") == before

    def test_nothing_to_train_on_leaves_nothing(self, logs):
        with pytest.raises(SplitError, match="training split is empty"):
            logs.prepare([row for row in GOLDEN if row[0] not in (2, 3)])
        assert contents_below(logs.directory) == ["prepared.csv", "spec.toml"]

    def test_an_earlier_data_set_is_replaced_only_when_told(self, logs):
        logs.prepare(GOLDEN)
        with pytest.raises(FileExistsError, match="--overwrite"):
            logs.prepare(GOLDEN)
        logs.prepare(GOLDEN, overwrite=True, write=WriteOptions(layout="row"))
        assert Manifest.load(logs.directory / "prepared").layout == "row"

    def test_other_files_are_never_replaced(self, logs):
        (logs.directory / "prepared").mkdir()
        (logs.directory / "prepared" / "thesis.tex").touch()
        with pytest.raises(FileExistsError, match="other files"):
            logs.prepare(GOLDEN, overwrite=True)
        assert contents_below(logs.directory / "prepared") == ["thesis.tex"]


class TestCommand:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "data_pipeline.prepare", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_the_last_line_names_the_results(self, logs, tmp_path):
        log, target = logs.write(GOLDEN), tmp_path / "prepared"
        done = self.run(
            f"--spec={logs.spec}",
            f"--input={log}",
            f"--output_dir={target}",
            "--noise_rates=.1,.2",
            "--num_shards=2",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(target / "results.json")
        results = json.loads((target / "results.json").read_text())
        assert set(results) == {"command", "config", "metrics"}
        assert results["config"]["noise_rates"] == [0.1, 0.2]
        assert results["metrics"]["splits"]["train"]["rows"] == 4
        assert len(Manifest.load(target).of_split("train")) == 2

    def test_wrong_flags(self, tmp_path):
        done = self.run("--spec=kuairand", "--input=x", f"--output_dir={tmp_path}/o", "--seed=x")
        assert done.returncode == 2
        done = self.run(
            "--spec=kuairand", "--input=x", f"--output_dir={tmp_path}/o", "--noise_rates=1.5"
        )
        assert done.returncode == 2
        assert "numbers in [0, 1]" in done.stderr
        done = self.run(
            "--spec=kuairand", "--input=x", f"--output_dir={tmp_path}/o", "--noise=items:.1"
        )
        assert done.returncode == 2
        assert "Expected: items:SHARE:RATE" in done.stderr

    def test_an_unknown_spec_is_one_sentence(self, tmp_path):
        done = self.run("--spec=kuairant", "--input=x", f"--output_dir={tmp_path}/o")
        assert done.returncode == 1
        assert "There is no such spec. Received: 'kuairant'" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_real_log(kuairand_directory, tmp_path):
    target = tmp_path / "kuairand"
    log = kuairand_directory / "data"
    prepare("kuairand", str(log), target, ReadOptions(), WriteOptions())
    with pyarrow.csv.open_csv(log / "log_standard_4_22_to_5_08_pure.csv.gz") as reader:
        table = reader.read_all()
    days = table["date"].to_numpy()
    expected = [np.sum(days < 20220504), np.sum(days == 20220504), np.sum(days == 20220505)]
    assert [Manifest.load(target).rows[split] for split in SPLITS] == expected
    statistics = json.loads((target / "stats.json").read_text())
    clicks = table["is_click"].to_numpy()
    assert statistics["splits"]["test"]["clicks"] == clicks[days == 20220505].sum()
    # By activity before the log: the more active, the fewer clicks.
    rates = [group["train"]["ctr"] for group in statistics["groups"].values()]
    assert len(rates) == 4
    assert rates == sorted(rates, reverse=True)
    verify(target)
