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
NAMESPACES = (f"clsd_{os.getpid()}_one", f"clsd_{os.getpid()}_two")
WATCHED = """
import multiprocessing, sys, time
from experiments import presence
from experiments.cluster import Cluster

def watch(last_work):
    presence._ASK_SECONDS = 0.1
    presence.is_out_of_reach = lambda address: address == "b:2"
    cluster = Cluster("parameter_server", {"chief": ("a:1",), "ps": ("a:3", "b:2")})
    presence.end_when_out_of_reach(cluster, ("ps", "worker"), 1.5, last_work)

if __name__ == "__main__":
    processes = multiprocessing.get_context("spawn")
    last_work = processes.Value("d", 0.0)
    processes.Process(target=watch, args=(last_work,), daemon=True).start()
    for _ in range(10 * int(sys.argv[1])):
        time.sleep(0.1)
        last_work.value = time.monotonic()
    print("did all", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("error", "is_vanished"),
    [
        ([TimeoutError("timed out")], True),
        ([OSError(errno.EHOSTUNREACH, "No route to host")], True),
        ([ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")], False),
        # By one of its addresses there is no way, by the other the machine answers.
        (
            [ConnectionRefusedError(errno.ECONNREFUSED, ""), OSError(errno.ENETUNREACH, "")],
            False,
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (None, False),
    ],
)
def test_a_machine_that_is_there_says_so(monkeypatch, error, is_vanished):
    def connect(address, timeout, all_errors):
        if isinstance(error, socket.gaierror):  # there is nothing to connect to
            raise error
        if error is not None:
            raise ExceptionGroup("create_connection failed", error)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    assert is_out_of_reach("host:1") is is_vanished


def watched(directory: pathlib.Path, works: int, waits: int) -> subprocess.CompletedProcess[str]:
    """A process that works, and then waits, so many seconds, while a machine is out of reach."""
    script = directory / "watched.py"
    script.write_text(WATCHED)
    command = [sys.executable, script, str(works), str(waits)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_who_waits_for_it_is_ended(tmp_path):
    started = time.monotonic()
    done = watched(tmp_path, works=1, waits=60)
    assert done.returncode == -9
    assert 2.5 < time.monotonic() - started < 40.0
    assert "Received: nothing from ps 1 (b:2) in 1.5 seconds. Expected: an answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_who_goes_on_without_it_is_not(tmp_path):
    done = watched(tmp_path, works=6, waits=0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "did all\n", "")


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Addresses of two hosts that reach each other, each a network namespace."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("two hosts on one machine need `ip` and root")
    commands = [f"ip netns add {name}" for name in NAMESPACES]
    one, two = NAMESPACES
    commands.append(f"ip link add v1 netns {one} type veth peer name v2 netns {two}")
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
        subprocess.run(["ip", "-n", NAMESPACES[1], "link", "set", "v2", "down"], check=True)
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
