"""A machine that vanishes without a word: whoever waits for it must not wait without end."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from experiments.presence import is_out_of_reach
from tests.services import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
NAMESPACES = ("clsd_one", "clsd_two")
WATCHED = """
import multiprocessing, time
from experiments import presence
from experiments.cluster import Cluster

def watch():
    presence._ASK_SECONDS = 0.1
    presence.is_out_of_reach = lambda address: address == "b:2"
    cluster = Cluster("parameter_server", {"chief": ("a:1",), "ps": ("a:3", "b:2")})
    presence.end_when_out_of_reach(cluster, ("ps", "worker"), 1.0)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=watch, daemon=True).start()
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("error", "is_vanished"),
    [
        (TimeoutError("timed out"), True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), False),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (None, False),
    ],
)
def test_a_machine_that_is_there_says_so(monkeypatch, error, is_vanished):
    def connect(address, timeout):
        if error is not None:
            raise error
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    assert is_out_of_reach("host:1") is is_vanished


def test_who_waits_for_it_is_ended(tmp_path):
    script = tmp_path / "watched.py"
    script.write_text(WATCHED)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    assert 1.0 < time.monotonic() - started < 30.0
    assert "Received: nothing from ps 1 (b:2) in 1 seconds. Expected: an answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Addresses of two hosts that reach each other, each a network namespace."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("two hosts on one machine need `ip` and root")
    commands = [f"ip netns add {name}" for name in NAMESPACES]
    commands.append("ip link add v1 netns clsd_one type veth peer name v2 netns clsd_two")
    for number, name in enumerate(NAMESPACES, 1):
        commands.append(f"ip -n {name} address add 10.77.0.{number}/24 dev v{number}")
        commands += [f"ip -n {name} link set {device} up" for device in ("lo", f"v{number}")]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"`{command}` is not allowed here: {done.stderr.strip()}")
        yield "10.77.0.1", "10.77.0.2"
    finally:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
def test_a_chief_ends_when_the_machine_of_a_server_has_vanished(hosts, sharded, tmp_path):
    one, two = hosts
    addresses = {
        "chief": [f"{one}:5000"],
        "worker": [f"{one}:5001"],
        "ps": [f"{two}:5002", f"{one}:5003"],
    }
    run = tmp_path / "run"
    processes: dict[tuple[str, int], subprocess.Popen] = {}
    try:
        for task, index, address in [
            (task, index, a) for task, of in addresses.items() for index, a in enumerate(of)
        ]:
            config = {"cluster": addresses, "task": {"type": task, "index": index}}
            host = NAMESPACES[address.startswith(two)]
            with (tmp_path / f"{task}-{index}.log").open("wb") as log:
                processes[task, index] = subprocess.Popen(
                    [
                        *("ip", "netns", "exec", host, sys.executable, "-P"),
                        *("-m", "experiments.train", f"--data_dir={sharded}"),
                        *(f"--model_dir={run}", "--method=plain", "--backbone=mlp"),
                        *("--epochs=1000", "--batch_size=128", "--checkpoint_steps=40"),
                        *("--strategy=parameter_server", "--connect_seconds=40", "--quiet"),
                    ],
                    env={**ENVIRONMENT, "TF_CONFIG": json.dumps(config)},
                    stdout=log,
                    stderr=log,
                )
        wait_for(run / "student" / "checkpoints", 150.0)
        subprocess.run(["ip", "-n", "clsd_two", "link", "set", "v2", "down"], check=True)
        assert processes["chief", 0].wait(120.0) == -9
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    said = (tmp_path / "chief-0.log").read_text(encoding="utf-8")
    assert f"Received: nothing from ps 0 ({two}:5002) in 40 seconds" in said
    assert "Traceback" not in said


def wait_for(checkpoints: pathlib.Path, seconds: float) -> None:
    stop = time.monotonic() + seconds
    while not list(checkpoints.glob("ckpt-*.index")):
        assert time.monotonic() < stop
        time.sleep(0.2)
