"""A real `tensorflow_model_server`, where there is one: over the wire, through version swaps.

CLSD_MODEL_SERVER names the program; otherwise it is looked for on PATH. Without one the tests are
skipped: the same requests are answered by its rules in `test_request_contract.py`.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.deployment import Deployment
from clsd_tf.serving_files import config_files, model_config
from tests.shop import CANDIDATES, ONCE, features_of

CLIENT = pathlib.Path(__file__).resolve().parents[2] / "examples" / "serving_client.py"
SWAPS = 100
_ONCE = {name: value for name, value in ONCE.items() if name != "segment"}


@pytest.fixture(scope="module")
def program() -> str:
    found = os.environ.get("CLSD_MODEL_SERVER") or shutil.which("tensorflow_model_server")
    if found is None:
        pytest.skip(
            "There is no tensorflow_model_server on PATH, and CLSD_MODEL_SERVER names none."
        )
    return found


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("serving_client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server of one model, with the configs that are deployed."""

    def __init__(self, program: str, base: pathlib.Path, configs: pathlib.Path):
        self.base, self.configs = base, configs
        self.grpc_port, self.rest_port = free_port(), free_port()
        configs.mkdir()
        self.deploy(Deployment(base.name, 1))
        self.process = subprocess.Popen(
            [
                program,
                f"--port={self.grpc_port}",
                f"--rest_api_port={self.rest_port}",
                f"--model_config_file={configs / 'model.config'}",
                "--model_config_file_poll_wait_seconds=1",
                "--file_system_poll_wait_seconds=1",
                "--allow_version_labels_for_unavailable_models=true",
                "--enable_batching=true",
                f"--batching_parameters_file={configs / 'batching.config'}",
                f"--monitoring_config_file={configs / 'monitoring.config'}",
            ],
            stderr=(configs / "log").open("wb"),
        )
        self.wait_for(lambda: b"AVAILABLE" in self.get(f"/v1/models/{base.name}"))

    def deploy(self, deployment: Deployment) -> None:
        for name, text in config_files(deployment).items():
            beside = self.configs / f".{name}"
            beside.write_text(text)
            os.replace(beside, self.configs / name)
        beside = self.configs / ".model.config"
        beside.write_text(model_config(deployment, str(self.base)))
        os.replace(beside, self.configs / "model.config")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.rest_port}{path}", timeout=5
        ) as answer:
            return answer.read()

    def wait_for(self, condition, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if condition():
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.2)
        raise AssertionError((self.configs / "log").read_text(errors="replace")[-3000:])


@pytest.fixture(scope="module")
def server(program, shop_export, tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    shutil.copytree(shop_export, root / "shop" / "1")
    server = Server(program, root / "shop", root / "configs")
    yield server
    server.process.terminate()
    server.process.wait(30)


@pytest.fixture(scope="module")
def expected(shop_model, shop_encoder) -> np.ndarray:
    rows = [{**ONCE, **candidate} for candidate in CANDIDATES]
    return tf.sigmoid(shop_model.backbone(features_of(shop_encoder, rows))).numpy()


def test_grpc(server, client, expected):
    asked = client.GrpcClient(f"127.0.0.1:{server.grpc_port}", "shop", "stable")
    for method in ("regress", "regress_and_classify", "predict"):
        np.testing.assert_allclose(getattr(asked, method)(_ONCE, CANDIDATES), expected, atol=1e-6)
    clicks = [each["click"] for each in asked.classify(_ONCE, CANDIDATES)]
    np.testing.assert_allclose(clicks, expected, atol=1e-6)


def test_rest(server, client, expected):
    asked = client.RestClient(f"http://127.0.0.1:{server.rest_port}", "shop", "stable")
    for method in ("regress", "predict"):
        np.testing.assert_allclose(getattr(asked, method)(_ONCE, CANDIDATES), expected, atol=1e-5)
    clicks = [each["click"] for each in asked.classify(_ONCE, CANDIDATES)]
    np.testing.assert_allclose(clicks, expected, atol=1e-5)


def test_bad_requests_are_client_errors(server, client):
    asked = client.RestClient(f"http://127.0.0.1:{server.rest_port}", "shop")
    with pytest.raises(urllib.error.HTTPError) as caught:
        asked.regress({"user_id": "seven"}, CANDIDATES)
    assert caught.value.code == 400
    assert b"Data types don't match" in caught.value.read()


@pytest.mark.slow
def test_no_request_fails_while_versions_are_swapped(server, client, shop_export):
    """Each swap: a new version appears, becomes stable, and the one before the last goes."""
    failures, answered, stop = [], [0], threading.Event()

    def ask() -> None:
        asked = client.GrpcClient(f"127.0.0.1:{server.grpc_port}", "shop", "stable")
        while not stop.is_set():
            try:
                asked.regress(_ONCE, CANDIDATES)
                answered[0] += 1
            except Exception as error:  # whatever it is, it is counted
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        deployment = Deployment("shop", 1)
        for version in range(2, 2 + SWAPS):
            beside = server.base / f".{version}.tmp"
            shutil.copytree(shop_export, beside)
            os.rename(beside, server.base / str(version))
            # Loaded first, then labelled: the label never points to what is not there.
            server.deploy(deployment.with_canary(version))
            status = f"/v1/models/shop/versions/{version}"
            server.wait_for(lambda path=status: b"AVAILABLE" in server.get(path))
            deployment = deployment.with_stable(version).with_canary(deployment.stable)
            server.deploy(deployment)
            if version > 3:
                shutil.rmtree(server.base / str(version - 3), ignore_errors=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert answered[0] > SWAPS
