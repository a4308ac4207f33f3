"""What every worker of the benchmark speaks: JSON lines on standard input and output.

A worker is a script that ends with `serve(MyWorker())`, and imports the standard library, NumPy
and what it measures, since it may run in an environment in which this project is not installed.
Cost is the processor time of all threads of the process and of its children: on a machine that
others use too it repeats where wall time does not.

    request   {"command": "prepare", "options": {...}}   {"command": "run", "steps": 10}
    answer    {"info": {...}}, {"examples": ..., "cpu_seconds": ..., ...}, or {"error": "..."}
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import time
import traceback
from typing import Protocol


class Worker(Protocol):
    """What is measured."""

    def prepare(self, options: dict) -> dict:
        """Gets ready, which is not measured; returns what is worth knowing, such as sizes."""

    def run(self, steps: int) -> int | tuple[int, dict[str, float]]:
        """Does the work of so many steps; returns examples, and other measures if there are any."""


def serve(worker: Worker) -> None:
    """Answers requests until standard input ends."""
    # What libraries print goes to standard error, so that answers stay alone on their pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(worker, request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(worker: Worker, request: dict) -> dict:
    if request["command"] == "prepare":
        return {"info": worker.prepare(request["options"])}
    cpu, wall = cpu_seconds(), time.monotonic()
    done = worker.run(request["steps"])
    cpu, wall = cpu_seconds() - cpu, time.monotonic() - wall
    examples, measures = done if isinstance(done, tuple) else (done, {})
    answer = {"examples": examples, "cpu_seconds": cpu, "wall_seconds": wall}
    return answer | {"peak_bytes": peak_bytes(), **measures}


def cpu_seconds() -> float:
    """Processor time of this process and its children, the living ones included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(_cpu_of(child) for child in _children(os.getpid()))
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def peak_bytes() -> int:
    """Most memory that this process has held at a time; its children's, if one held more."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    # `ru_maxrss` of a process begins with that of the one that started it.
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return max(children, int(line.split()[1]) * 1024)
    return children


def _children(pid: int) -> list[int]:
    """Living children of a process; none where the system does not tell."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found


def _cpu_of(pid: int) -> float:
    """Processor time of a living child and of all its descendants."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_of(child) for child in _children(pid))
