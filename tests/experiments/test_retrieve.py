"""Retrieval on a prepared data set, as its command does it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import Encoder
from clsd_tf.retrieval_index import distinct_items
from data_pipeline.reader import make_dataset
from experiments.retrieval import (
    Towers,
    judge_towers,
    satisfaction_column,
    tower_features,
    train_towers,
)
from experiments.training import load_taught

SMALL = Towers(units=(8,), dim=8, epochs=2, batch_size=512)


def test_each_tower_gets_what_describes_its_side(prepared):
    users, items = (
        {feature.name for feature in side} for side in tower_features(Encoder.load(prepared))
    )
    assert {"user_id", "click_history"} <= users
    assert "item_id" in items
    assert not users & items
    assert "hour" not in users | items


@pytest.mark.slow
def test_towers_that_know_confidence_find_more_than_chance(clsd, prepared, tmp_path):
    scorer, _ = load_taught(clsd, clsd.config())
    model = train_towers(prepared, SMALL, scorer)
    judge = satisfaction_column(prepared, None)
    index, metrics = judge_towers(model, prepared, "valid", 20, judge)
    assert metrics["k"] == 20
    assert metrics["chance"] == pytest.approx(20 / metrics["items"])
    assert metrics[f"recall_{judge}"] > 1.3 * metrics["chance"]
    names = [feature.name for feature in model.item_tower.features]
    seen = distinct_items(make_dataset(prepared, "train", 4096, columns=names), model)
    assert metrics["items"] == len(seen["item_id"])
    _, found = index({f.name: tf.zeros_like(v) for f, v in _one_user(model, prepared)})
    assert len(np.unique(found)) == 20


def _one_user(model, prepared):
    features, _, _ = next(iter(make_dataset(prepared, "valid", 1, shuffle=False)))
    return [(feature, features[feature.name]) for feature in model.user_tower.features]


@pytest.mark.slow
def test_the_command(clsd, prepared, run, tmp_path):
    where = (f"--data_dir={prepared}", "--output_dir=towers", f"--scorer={clsd.directory}")
    results = run("experiments.retrieve", *where, "--epochs=1", "--k=10", cwd=tmp_path)
    metrics = json.loads(results.read_text())["metrics"]
    assert 0 < metrics["recall"] < 1
    served = tf.saved_model.load(str(results.parent / "index")).signatures["serving_default"]
    assert served.structured_outputs["items"].shape[1] == 10


def test_a_judge_is_a_satisfaction_column(prepared):
    with pytest.raises(ValueError, match=r"Received: 'click'. Expected one of: "):
        satisfaction_column(prepared, "click")
