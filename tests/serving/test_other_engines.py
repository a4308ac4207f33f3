"""Engines that share no code with TensorFlow compute the same numbers."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime
import openvino
import pytest

from clsd_tf.requests import to_encoded
from clsd_tf.sample_rows import sample_rows
from tests.shop import REQUESTS, tensors


@pytest.fixture(scope="module")
def inputs(shop_encoder) -> dict[str, np.ndarray]:
    return to_encoded(shop_encoder, [*REQUESTS, *sample_rows(shop_encoder, 60)])


@pytest.fixture(scope="module")
def expected(shop_served, inputs) -> np.ndarray:
    scores = shop_served["predict_encoded"](**tensors(inputs))["outputs"].numpy()
    assert np.ptp(scores) > 0.05
    return scores


@pytest.fixture(scope="module")
def onnx_model(shop_export, tmp_path_factory) -> pathlib.Path:
    """The export's numeric signature by tf2onnx, in a process of its own: it changes TensorFlow."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", "--saved-model", str(shop_export)]
    command += ["--signature_def", "predict_encoded", "--tag", "serve", "--opset", "17"]
    done = subprocess.run(
        [*command, "--output", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return path


def test_onnx_runtime(onnx_model, inputs, expected):
    # tf2onnx ends well with files that cannot be loaded: only loading tells.
    session = onnxruntime.InferenceSession(str(onnx_model), providers=["CPUExecutionProvider"])
    by_name = {each.name.partition(":")[0]: each.name for each in session.get_inputs()}
    feed = {by_name[name]: values for name, values in inputs.items() if name in by_name}
    assert set(by_name) == set(inputs)
    (received,) = session.run(None, feed)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_openvino(onnx_model, inputs, expected):
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(onnx_model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    feed = {}
    for port in compiled.inputs:
        names = {name.partition(":")[0] for name in port.get_names()}
        (name,) = names & set(inputs)
        feed[port] = inputs[name]
    received = compiled(feed)[compiled.output(0)]
    np.testing.assert_allclose(received, expected, atol=1e-5)
