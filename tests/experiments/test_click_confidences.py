from __future__ import annotations

import json
import pathlib
import re
import shutil

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from data_pipeline.manifest import Manifest
from data_pipeline.shards import keys_path
from experiments.click_confidences import TOLD, write_confidences
from experiments.confidence_sidecars import sidecar_path

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def directory(clsd, tmp_path_factory):
    directory = tmp_path_factory.mktemp("confidences")
    write_confidences(clsd, clsd.config(), "train", directory)
    return directory


@pytest.fixture(scope="module")
def told(directory):
    return pq.read_table(directory / "train.parquet")


def test_sidecars_are_aligned_with_the_shards(directory, told, prepared):
    manifest = Manifest.load(prepared)
    rows, confidence = [], []
    for shard in manifest.of_split("train"):
        records = [*tf.data.TFRecordDataset(str(sidecar_path(directory, shard)))]
        assert len(records) == -(-shard.rows // manifest.block_rows)
        examples = [tf.train.Example.FromString(record.numpy()).features for record in records]
        assert {*examples[0].feature} == {"_row", *TOLD}
        own = [row for e in examples for row in e.feature["_row"].int64_list.value]
        keys = pq.read_table(keys_path(prepared, shard.file))["_row"].to_pylist()
        assert own == keys
        rows += own
        confidence += [c for e in examples for c in e.feature["confidence"].float_list.value]
    values = dict(zip(rows, confidence, strict=True))
    clicked = {row for row, value in values.items() if not np.isnan(value)}
    assert clicked == set(told["_row"].to_pylist()) < set(values)
    received = [values[row] for row in told["_row"].to_pylist()]
    np.testing.assert_array_equal(received, told["confidence"].to_numpy())


def test_a_row_for_each_click_with_its_own_keys(told, log, prepared):
    path = next(log.glob("log.*"))
    joined = duckdb.sql(f"""
        SELECT count(*) FROM told JOIN read_parquet('{path}') AS source
        USING (user_id, item_id, time_ms) WHERE source.click = 1
    """)
    (rows,) = joined.fetchone()
    assert rows >= told.num_rows  # an item may be shown twice at a time
    statistics = json.loads((prepared / "stats.json").read_text())
    assert told.num_rows == statistics["splits"]["train"]["clicks"]
    assert len(set(told["_row"].to_pylist())) == told.num_rows
    assert Manifest.load(prepared).rows["train"] > told.num_rows


def test_confidence_is_that_of_the_function(told, clsd):
    """affine: sigmoid(a z + b), by the pooled parameters and by the group's own."""
    result = json.loads((clsd.student / "phase.json").read_text())
    table = {row["group"]: (row["scale"], row["bias"]) for row in result["confidence"]}
    logits = told["teacher_logit"].to_numpy().astype(np.float64)
    parameters = np.array([table[group] for group in told["group"].to_pylist()])
    for name, (scale, bias) in {
        "global_confidence": table["pooled"],
        "local_confidence": parameters.T,
    }.items():
        np.testing.assert_allclose(
            told[name].to_numpy(), 1 / (1 + np.exp(-(scale * logits + bias))), rtol=1e-4
        )
    pooled, own = (told[f"{n}_confidence"].to_numpy() for n in ("global", "local"))
    alpha = 0.5
    np.testing.assert_allclose(
        told["confidence"].to_numpy(), pooled ** (1 - alpha) * own**alpha, rtol=1e-4
    )


def test_labels_and_weights_are_those_of_the_loss(told, clsd):
    assert clsd.config().options["student"] == "soft"
    np.testing.assert_array_equal(told["label_used"].to_numpy(), told["confidence"].to_numpy())
    np.testing.assert_array_equal(told["weight_used"].to_numpy(), 1.0)


def test_categories_come_by_their_names(told):
    assert set(told["item_category"].to_pylist()) & {"item_category_0", "item_category_1"}
    assert all(re.match(r"<|>=|missing|.* to <", age) for age in set(told["user_age"].to_pylist()))


def test_the_uses_of_the_docs_run(directory, tmp_path, monkeypatch):
    shutil.copytree(directory, tmp_path / "runs/clsd/scores/confidences")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "confidences.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        values: dict[str, object] = {}
        exec(snippet, values)
        assert any(
            len(values[n]) for n in ("records", "pairs", "clickbait", "by_group") if n in values
        )
