"""A log with a further label: from CSV to a served model of the click, which learned of both."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

SPEC = """
name = "shop"
[split]
by = "time"
valid_fraction = 0.2
test_fraction = 0.1
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "int", encoding = "vocabulary" }
kind = { role = "group", type = "int", encoding = "identity", num_values = 2 }
click = { role = "label", type = "int" }
like = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory, run):
    """A prepared log in which likes follow clicks."""
    place = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 40, 6000), rng.integers(0, 30, 6000)
    click = rng.random(6000) < np.where(item > 15, 0.6, 0.2)
    like = click & (rng.random(6000) < np.where(item % 2, 0.8, 0.1))
    view = click & (rng.random(6000) < 0.5)
    lines = ["user_id,item_id,kind,click,like,long_view,time_ms"]
    for i in range(6000):
        time = 1_700_000_000_000 + 1000 * i
        lines.append(
            f"{user[i]},{item[i]},{user[i] % 2},{click[i]:d},{like[i]:d},{view[i]:d},{time}"
        )
    (place / "log.csv").write_text("\n".join(lines) + "\n")
    (place / "spec.toml").write_text(SPEC)
    run(
        "data_pipeline.prepare",
        "--spec=spec.toml",
        "--input=log.csv",
        "--output_dir=prepared",
        cwd=place,
    )
    return place


@pytest.mark.slow
def test_the_click_is_served_and_the_like_is_learned(shop, run):
    options = {"tasks": ["like"], "units": [16], "tower_units": [8]}
    results = run(
        "experiments.train",
        "--data_dir=prepared",
        "--model_dir=runs/mmoe",
        "--method=clsd",
        "--backbone=mmoe",
        f"--backbone_options={json.dumps(options)}",
        "--batch_size=100",
        "--epochs=3",
        cwd=shop,
    )
    logged = json.loads(results.read_text())["metrics"]["student"]
    assert logged
    exported = run("experiments.export", "--model_dir=runs/mmoe", "--nowarmup", cwd=shop)
    served = tf.saved_model.load(str(exported.parents[1])).signatures["predict_features"]
    # Neither the group nor a further label is asked for.
    assert set(served.structured_input_signature[1]) == {"user_id", "item_id"}
    pair = {"user_id": tf.constant([3, 3], tf.int64), "item_id": tf.constant([2, 25], tf.int64)}
    scores = served(**pair)["outputs"].numpy()
    assert scores[1] > scores[0]


@pytest.mark.slow
def test_what_judges_is_no_task(shop, tmp_path):
    options = json.dumps({"tasks": ["long_view"], "units": [16], "tower_units": [8]})
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "experiments.train", "--data_dir=prepared"),
            *(f"--model_dir={tmp_path}/run", "--backbone=mmoe", f"--backbone_options={options}"),
        ],
        cwd=shop,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Satisfaction columns judge models" in done.stderr and "long_view" in done.stderr
    assert "Traceback" not in done.stderr
