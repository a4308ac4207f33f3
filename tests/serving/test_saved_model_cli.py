"""`saved_model_cli` of TensorFlow shows, runs and scans an export."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from clsd_tf.requests import to_dense
from tests.shop import REQUESTS, features_of


def run_cli(*arguments: str) -> str:
    command = [pathlib.Path(sys.executable).parent / "saved_model_cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_show(shop_export):
    shown = run_cli("show", "--dir", str(shop_export), "--all")
    for name in ("serving_default", "classify", "predict_features", "predict_candidates"):
        assert f"signature_def['{name}']" in shown
    assert "inputs['click_history_mask'] tensor_info" in shown
    assert "Method name is: tensorflow/serving/predict" in shown


def test_scan(shop_export):
    scanned = run_cli("scan", "--dir", str(shop_export), "--tag_set", "serve")
    assert "does not contain the default denylisted ops" in scanned


def test_run(shop_export, shop_model, shop_encoder, tmp_path):
    inputs = to_dense(shop_encoder.spec, REQUESTS)
    given = []
    for name, values in inputs.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, np.array(values.tolist()) if values.dtype == object else values)
        given.append(f"{name}={path}")
    command = ["run", "--dir", str(shop_export), "--tag_set", "serve", "--overwrite"]
    command += ["--signature_def", "predict_features", "--outdir", str(tmp_path)]
    ran = run_cli(*command, "--inputs", ";".join(given))
    assert "Result for output key outputs" in ran
    expected = tf.sigmoid(shop_model.backbone(features_of(shop_encoder, REQUESTS)))
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, atol=1e-6)
