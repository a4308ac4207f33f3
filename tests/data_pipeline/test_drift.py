"""Rows of another day against what was trained on: what is told, and when the status is 1."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from data_pipeline.column_shares import column_shares, unknown_shares
from data_pipeline.drift import Limits, Profile, compare, read_training
from data_pipeline.drift_rows import profile_log, profile_requests
from data_pipeline.engines import open_engine
from data_pipeline.loading import load_impressions
from data_pipeline.manifest import Manifest
from tests.data_pipeline.raw_logs import START, make_spec, write_csv, write_json_lines

COLUMNS = """
price = { type = "float", encoding = "numeric" }
scene = { type = "int", encoding = "identity", num_values = 4 }
tags = { type = "int", encoding = "vocabulary", max_length = 3 }
"""
SPEC_TEXT = f"""
name = "small"
[split]
by = "time"
[columns]
user_id = {{ role = "user", type = "int", encoding = "vocabulary" }}
item_id = {{ role = "item", type = "string", encoding = "vocabulary" }}
click = {{ role = "label", type = "int" }}
time = {{ role = "timestamp", type = "int", unit = "s" }}
{COLUMNS}"""
LIMITS = Limits(click_rate=0.25, missing=0.1, new=0.2, shift=0.5)


def log_rows(count: int = 400, seed: int = 0, **changed: object) -> list[dict]:
    """Rows of a day; `changed` are functions of a random generator."""
    rng = random.Random(seed)
    draw = {
        "user_id": lambda r: r.randrange(9),
        "item_id": lambda r: f"i{r.randrange(20)}",
        "click": lambda r: int(r.random() < 0.3),
        "price": lambda r: round(r.gauss(10.0, 2.0), 3) if r.random() < 0.9 else None,
        "scene": lambda r: r.randrange(4),
        "tags": lambda r: " ".join(str(r.randrange(5)) for _ in range(r.randrange(1, 4))),
    } | changed
    return [{"time": START + i} | {k: f(rng) for k, f in draw.items()} for i in range(count)]


@pytest.fixture
def data_dir(tmp_path):
    """What `clsd-prepare` leaves of `log_rows()`, as far as the check reads it."""
    directory = tmp_path / "prepared"
    (directory / "vocab").mkdir(parents=True)
    (directory / "spec.toml").write_text(SPEC_TEXT)
    Manifest("small", "columnar", 16, {"train": 0}, ()).save(directory)
    for name, tokens in (
        ("user_id", range(9)),
        ("item_id", [f"i{i}" for i in range(20)]),
        ("tags", range(5)),
    ):
        (directory / "vocab" / f"{name}.txt").write_text("".join(f"{t}\n" for t in tokens))
    engine = open_engine(tmp_path / "engine", threads=1)
    path = write_csv(tmp_path / "train.csv", log_rows())
    spec = make_spec(COLUMNS)
    rows = load_impressions(engine, spec, path, tmp_path / "out").impressions
    statistics = {
        "splits": {"train": {"rows": 400, "ctr": 0.3}},
        "columns": column_shares(engine, rows, spec, spec.encoded_columns),
        "oov_rates": {"user_id": {"train": 0.0}, "item_id": {"train": 0.0, "valid": 0.1}},
    }
    engine.disconnect()
    (directory / "stats.json").write_text(json.dumps(statistics))
    return directory


def too_far(findings) -> dict[str, str]:
    return {f.column: f.what for f in findings if f.too_far}


def check_log(data_dir, tmp_path, **changed) -> dict[str, str]:
    path = write_csv(tmp_path / "next.csv", log_rows(seed=1, **changed))
    now = profile_log(data_dir, str(path), tmp_path / "place")
    return too_far(compare(read_training(data_dir), now, LIMITS))


def test_shares_equal_plain_python(data_dir):
    rows, told = log_rows(), read_training(data_dir).columns
    prices = [r["price"] for r in rows if r["price"] is not None]
    mean = sum(prices) / len(prices)
    variance = sum((p - mean) ** 2 for p in prices) / len(prices)
    assert told["price"]["missing"] == pytest.approx(1 - len(prices) / 400)
    assert told["price"]["mean"] == pytest.approx(mean, rel=1e-6)
    assert told["price"]["deviation"] == pytest.approx(variance**0.5, rel=1e-6)
    assert told["tags"] == told["user_id"] == {"missing": 0.0}


def test_numbers_without_values_and_of_any_size(tmp_path):
    engine = open_engine(tmp_path / "engine", threads=1)
    spec = make_spec(COLUMNS)
    column = [spec.column("price")]
    for values, expected in (
        ([None, None], (1.0, 0.0, 0.0)),
        ([0.0, 0.0], (0.0, 0.0, 0.0)),
        ([1e300, None], (0.5, 3.4e38, 0.0)),
        ([-1e300, -1e300], (0.0, -3.4e38, 0.0)),
        ([1e-30, 3e-30], (0.0, 2e-30, 1e-30)),
    ):
        engine.raw_sql("CREATE OR REPLACE TABLE t (price DOUBLE)")
        engine.con.executemany("INSERT INTO t VALUES (?)", [[v] for v in values])
        (shares,) = column_shares(engine, engine.table("t"), spec, column).values()
        assert tuple(shares.values()) == pytest.approx(expected, rel=1e-6)
    engine.disconnect()


def test_another_day_like_the_first_is_no_drift(data_dir, tmp_path):
    assert check_log(data_dir, tmp_path) == {}


def test_each_kind_of_drift_is_found(data_dir, tmp_path):
    assert check_log(
        data_dir,
        tmp_path,
        click=lambda r: int(r.random() < 0.6),
        price=lambda r: round(r.gauss(13.0, 2.0), 3),
        item_id=lambda r: f"new{r.randrange(20)}" if r.random() < 0.5 else "i1",
        scene=lambda r: None if r.random() < 0.5 else r.randrange(4),
        tags=lambda r: "7 8",
    ) == {
        "click": "rate",
        "price": "mean",
        "item_id": "share of unknown values",
        "scene": "share of missing values",
        "tags": "share of unknown values",
    }


def test_bad_rows_are_drift_too(data_dir, tmp_path):
    assert check_log(data_dir, tmp_path, click=lambda r: r.choice([0, 0, 0, 1, "?"]))["row"]


def test_few_rows_tell_little():
    """Ten rows with six clicks may well be of a log with three in ten."""
    training = Profile(10**6, 0.3, {"a": {"missing": 0.0}}, {})
    for rows, expected in ((10, {}), (1000, {"click": "rate"})):
        assert too_far(compare(training, Profile(rows, 0.6, {}, {}), LIMITS)) == expected


def test_requests(data_dir, tmp_path):
    rows = [{"user_id": 1, "item_id": "i1", "price": 10.0, "tags": [1, 2]} for _ in range(50)]
    path = write_json_lines(tmp_path / "requests.jsonl", rows)
    now = profile_requests(data_dir, str(path), tmp_path / "place")
    assert (now.rows, now.click_rate, now.absent) == (50, None, ("scene",))
    assert too_far(compare(read_training(data_dir), now, LIMITS)) == {
        "scene": "missing column, share"
    }
    changed = [r | {"scene": 9, "user_id": "x", "price": "NaN"} for r in rows]
    path = write_json_lines(tmp_path / "changed.jsonl", changed)
    now = profile_requests(data_dir, str(path), tmp_path / "again")
    assert too_far(compare(read_training(data_dir), now, LIMITS)) == {
        "user_id": "share of missing values",
        "price": "share of missing values",
        "scene": "share of unknown values",
    }


def test_unknown_elements_of_lists_are_counted(tmp_path):
    engine = open_engine(tmp_path / "engine", threads=1)
    engine.raw_sql("CREATE TABLE t AS SELECT unnest([[1, 2], [9], [], NULL]) AS tags")
    engine.raw_sql("CREATE TABLE known AS SELECT unnest([1::BIGINT, 2]) AS token")
    column = make_spec(COLUMNS).column("tags")
    shares = unknown_shares(engine, engine.table("t"), [column], {"tags": engine.table("known")})
    assert shares == {"tags": pytest.approx(1 / 3)}
    engine.disconnect()


def test_an_older_data_set_is_told(data_dir):
    (data_dir / "stats.json").write_text('{"splits": {"train": {"rows": 1, "ctr": 0.5}}}')
    with pytest.raises(ValueError, match="does not describe training rows.*prepare the log again"):
        read_training(data_dir)


def test_the_command_fails_with_one_sentence(data_dir, tmp_path):
    """And loads no TensorFlow, which `-X importtime` would list."""
    path = write_csv(tmp_path / "next.csv", log_rows(seed=1, click=lambda r: 1))
    flags = [f"--data_dir={data_dir}", f"--input={path}", f"--output_dir={tmp_path / 'drift'}"]
    command = [sys.executable, "-X", "importtime", "-P", "-m", "experiments.drift", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-500:]
    assert "tensorflow" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        "What is served or logged has drifted from what was trained on. Received: click:"
    )
    assert done.stdout.splitlines()[-1] == str(tmp_path / "drift" / "results.json")
    metrics = json.loads((tmp_path / "drift" / "results.json").read_text())["metrics"]
    assert (metrics["rows"], metrics["too_far"]) == (400, 1)
