"""The whole path on a real click log: prepared, trained, exported, and served from raw requests.

The requests are made here, from the log's own files and by other means than the pipeline's: what
the served model makes of them has to be what the trained one makes of the prepared rows.
"""

from __future__ import annotations

import bisect
import collections
import json
import pathlib
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from clsd_tf import Encoder, read_spec
from clsd_tf.features import ROW
from data_pipeline.manifest import Manifest
from experiments.evaluation import score_split
from experiments.models import load_model
from experiments.runs import Run
from experiments.skew import compare_raw

pytestmark = pytest.mark.slow

COMMON = ["--backbone=mlp", '--backbone_options={"units": [16]}', "--seed=1"]
# What a server does: it knows TensorFlow alone.
RELOAD = """
import sys, numpy as np, tensorflow as tf
sys.modules["clsd_tf"] = None
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
batches = tf.data.TFRecordDataset(sys.argv[2]).batch(1000)
np.save(sys.argv[3], np.concatenate([serve(inputs=b)["outputs"] for b in batches]))
"""
KINDS = {"int": ("int64_list", int), "string": ("bytes_list", str.encode)}


def raw_rows(directory: pathlib.Path) -> list[dict]:
    """The rows of the log in the order of time, with the columns of all tables."""
    table = duckdb.sql(f"""
        SELECT * FROM (
          SELECT *, row_number() OVER () AS place
          FROM '{directory}/log_standard_4_22_to_5_08_pure.csv.gz'
        )
        LEFT JOIN '{directory}/user_features_pure.csv.gz' USING (user_id)
        LEFT JOIN '{directory}/video_features_basic_pure.csv.gz' USING (video_id)
        LEFT JOIN '{directory}/user_history_before_4_25_pure.csv.gz' USING (user_id)
        ORDER BY time_ms, place
    """).to_arrow_table()
    return table.to_pylist()


def add_histories(rows: list[dict], length: int = 50) -> None:
    """Adds the last items that the user clicked at an earlier time."""
    times, items = collections.defaultdict(list), collections.defaultdict(list)
    for row in rows:
        user = row["user_id"]
        earlier = bisect.bisect_left(times[user], row["time_ms"])
        row["click_history"] = items[user][:earlier][-length:]
        if row["is_click"]:
            times[user].append(row["time_ms"])
            items[user].append(row["video_id"])


def request(spec, row: dict) -> bytes:
    """A serving request with the raw features of a row; what is missing is left out."""
    example = tf.train.Example()
    for column in spec.model_columns:
        value = row[column.source_name]
        if column.is_list and not isinstance(value, list):
            value = [int(part) for part in str(value or "").replace(",", " ").split()]
        values = [v for v in (value if column.is_list else [value]) if v is not None]
        if not values:
            continue
        kind, convert = KINDS[column.type]
        field = getattr(example.features.feature[column.name], kind)
        field.value.extend(convert(value) for value in values)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def served(kuairand_directory, run, tmp_path_factory) -> pathlib.Path:
    """A directory with the prepared log, a plain run, one of CLSD, and its export."""
    root = tmp_path_factory.mktemp("real")
    where = ("--spec=kuairand", f"--input={kuairand_directory / 'data'}", "--output_dir=prepared")
    run("data_pipeline.prepare", *where, cwd=root)
    train = ["--data_dir=prepared", *COMMON]
    run("experiments.train", *train, "--model_dir=plain", "--method=plain", cwd=root)
    clsd = ["--model_dir=clsd", "--method=clsd", "--teacher_dir=plain"]
    run("experiments.train", *train, *clsd, cwd=root)
    for name in ("plain", "clsd"):
        run("experiments.evaluate", f"--model_dir={name}", "--split=valid", cwd=root)
    run("experiments.export", "--model_dir=clsd", "--output_dir=served", cwd=root)
    return root


def judged(served: pathlib.Path, name: str) -> dict:
    path = served / name / "evaluation" / "valid" / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["metrics"]


@pytest.mark.parametrize("name", ["plain", "clsd"])
def test_clicks_and_long_views_are_ranked(served, name):
    metrics = judged(served, name)
    assert 0.72 < metrics["click"]["auc"] < 0.77
    assert 0.71 < metrics["satisfaction"]["long_view"]["auc"] < 0.76
    # More than label-free scores or a supervised model reach among clicks would be a leak.
    assert 0.58 < metrics["satisfaction"]["long_view"]["auc_among_clicks"] < 0.67


def test_raw_requests_are_served_as_the_trained_model_scores(served, kuairand_directory):
    spec = read_spec(served / "prepared" / "spec.toml")
    rows = raw_rows(kuairand_directory / "data")
    add_histories(rows)
    (keys,) = sorted((served / "prepared" / "keys").glob("valid-*.parquet"))
    with tf.io.TFRecordWriter(str(served / "requests")) as writer:
        for key in pq.read_table(keys).drop_columns(["_day"]).to_pylist():
            row = rows[key.pop(ROW)]
            assert key == {name: row[name] for name in key}
            writer.write(request(spec, row))
    reload = [sys.executable, "-P", "-c", RELOAD, "served/1", "requests", "scores.npy"]
    subprocess.run(reload, cwd=served, check=True, capture_output=True)
    received = np.load(served / "scores.npy")

    trained = Run(served / "clsd")
    model = load_model(trained, trained.config())
    scored = score_split(model, Encoder.load(trained.encoding), served / "prepared", "valid")
    assert len(received) == len(scored.scores) == 17_226
    np.testing.assert_allclose(received, scored.scores, atol=1e-5)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_raw_row_is_encoded_in_the_export_as_prepare_did(served, kuairand_directory, split):
    trained, prepared = Run(served / "clsd"), served / "prepared"
    model = load_model(trained, trained.config())
    scored = score_split(model, Encoder.load(trained.encoding), prepared, split)
    raw, export = kuairand_directory / "data", served / "served" / "1"
    _, skew = compare_raw(export, scored, prepared, raw, split, allowed=1e-5)
    assert np.ptp(scored.scores) > 0.5
    assert skew.rows == Manifest.load(prepared).rows[split] > 10_000
    assert skew.rows_that_differ == 0
