from __future__ import annotations

import json
import pathlib
import re

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.manifest import Manifest
from experiments.click_confidences import write_confidences

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def told(clsd, tmp_path_factory):
    directory = tmp_path_factory.mktemp("confidences")
    return pq.read_table(write_confidences(clsd, clsd.config(), "train", directory))


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


def test_the_uses_of_the_docs_run(told, tmp_path, monkeypatch):
    path = tmp_path / "runs/clsd/scores/confidences/train.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(told, path)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "confidences.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        values: dict[str, object] = {}
        exec(snippet, values)
        assert any(len(values[n]) for n in ("pairs", "clickbait", "by_group") if n in values)
