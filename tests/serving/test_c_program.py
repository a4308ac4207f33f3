"""A C program, linked with the library in the wheel of TensorFlow, gives the same answers."""

from __future__ import annotations

import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.requests import to_candidates, to_dense, to_encoded
from tests.shop import CANDIDATES, ONCE, REQUESTS, features_of, graph_of, serialized

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "serve_without_python.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> pathlib.Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("There is no C compiler (cc, gcc or clang) on PATH.")
    home = pathlib.Path(tf.sysconfig.get_lib())
    path = tmp_path_factory.mktemp("c") / "serve"
    libraries = [home / "libtensorflow_cc.so.2", home / "libtensorflow_framework.so.2"]
    command = [compiler, SOURCE, "-o", path, "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{tf.sysconfig.get_include()}", *libraries, f"-Wl,-rpath,{home}"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def ask(program, shop_export, tmp_path):
    """Runs the program on a signature; returns what came of it."""

    def ask(signature: str, inputs: dict[str, np.ndarray]) -> subprocess.CompletedProcess[str]:
        definition = graph_of(shop_export).signature_def[signature]
        path = tmp_path / "inputs"
        with path.open("wb") as file:
            file.write(struct.pack("<i", len(inputs)))
            for name, values in inputs.items():
                write_tensor(file, definition.inputs[name].name, np.asarray(values))
        command = [program, shop_export, definition.outputs["outputs"].name, path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return ask


def write_tensor(file, name: str, values: np.ndarray) -> None:
    is_text = values.dtype.kind in "OS"
    dtype = tf.string if is_text else tf.as_dtype(values.dtype)
    file.write(struct.pack("<i", len(name)) + name.encode())
    file.write(struct.pack("<ii", dtype.as_datatype_enum, values.ndim))
    file.write(struct.pack(f"<{values.ndim}q", *values.shape))
    if not is_text:
        file.write(np.ascontiguousarray(values).tobytes())
        return
    for text in values.ravel():
        file.write(struct.pack("<q", len(text)) + text)


def test_all_signatures_answer_as_in_python(ask, shop_model, shop_encoder):
    spec = shop_encoder.spec
    merged = [{**ONCE, **candidate} for candidate in CANDIDATES]
    asked = {
        "serving_default": ({"inputs": serialized(REQUESTS).numpy()}, REQUESTS),
        "predict_features": (to_dense(spec, REQUESTS), REQUESTS),
        "predict_candidates": (to_candidates(spec, ONCE, CANDIDATES), merged),
        "predict_encoded": (to_encoded(shop_encoder, REQUESTS), REQUESTS),
    }
    for signature, (inputs, rows) in asked.items():
        done = ask(signature, inputs)
        assert done.returncode == 0, done.stderr
        received = [float(line) for line in done.stdout.split()]
        expected = tf.sigmoid(shop_model.backbone(features_of(shop_encoder, rows)))
        np.testing.assert_allclose(received, expected, atol=1e-6, err_msg=signature)


def test_bad_requests_are_refused_by_a_message(ask, shop_encoder):
    done = ask("serving_default", {"inputs": np.array([b"\x07nonsense"], object)})
    assert done.returncode == 1
    assert "Could not parse example input" in done.stderr
    inputs = to_dense(shop_encoder.spec, REQUESTS)
    inputs["age"] = inputs["age"][:2]
    done = ask("predict_features", inputs)
    assert done.returncode == 1
    assert "running: " in done.stderr


def test_dense_lists_that_are_too_long_keep_their_end(ask, shop_encoder):
    """A session does not check the length of what it is fed."""
    row = {"click_history": ["fig", "pear", "kiwi"]}
    inputs = to_dense(shop_encoder.spec, [row])
    longer = dict(inputs)
    longer["click_history"] = np.array([[b"pear", b"fig", b"pear", b"kiwi"]], object)
    longer["click_history_mask"] = np.ones((1, 4), bool)
    done = ask("predict_features", longer)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ask("predict_features", inputs).stdout
