"""Calls in this process and in others: who makes them, and what is seen of errors and of ends."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from clsd_tf.spec import SpecError
from experiments.replaced_process import ReplacedProcess
from tests.services import ROOT

PROGRAM = """
import os, pathlib, sys, time
from experiments.replaced_process import ReplacedProcess

if __name__ == "__main__":
    call = ReplacedProcess(pathlib.Path(sys.argv[1]), calls=2)
    call(os.getpid), call(os.getpid)
    print(call(os.getpid), flush=True)
    call(time.sleep, 1000)
"""


def refuse() -> None:
    raise SpecError("log.toml", [], [])


def test_each_process_makes_so_many_calls(tmp_path):
    call = ReplacedProcess(tmp_path / "log", calls=2)
    own, second, third, fourth, fifth = (call(os.getpid) for _ in range(5))
    assert own == second == os.getpid()
    assert third == fourth
    assert len({own, third, fifth}) == 3


def test_errors_are_those_of_the_call(tmp_path):
    call = ReplacedProcess(tmp_path / "log", calls=1)
    assert call(operator.add, 1, 2) == 3
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        call(operator.truediv, 1, 0)
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
    with pytest.raises(RuntimeError, match="SpecError: log.toml"):  # which cannot be sent
        call(refuse)


def test_what_cannot_be_sent_is_told(tmp_path):
    call = ReplacedProcess(tmp_path / "log", calls=1)
    call(os.getpid)
    with pytest.raises(RuntimeError, match="cannot pickle"):
        call(threading.Lock)


def test_a_killed_process_is_told_and_replaced(tmp_path):
    call = ReplacedProcess(tmp_path / "log", calls=1)
    call(os.getpid)
    with pytest.raises(RuntimeError, match=r"Received: no answer, see .*log\. Expected: one"):
        call(signal.raise_signal, signal.SIGKILL)
    assert call(operator.add, 1, 2) == 3


def test_nobody_works_for_one_who_is_gone(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "log"], stdout=subprocess.PIPE, env=environment
    ) as parent:
        other = int(parent.stdout.readline())
        os.kill(other, 0)  # it is there
        time.sleep(0.5)
        parent.kill()
    stop = time.monotonic() + 20
    while time.monotonic() < stop:
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("The process goes on.")
