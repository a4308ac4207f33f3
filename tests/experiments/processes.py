"""Clusters of real processes on loopback, restarted as a scheduler would restart them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

# Of all processes together, on a machine that does other work.
_TIMEOUT_SECONDS = 1800
# `tests` is no installed package.
_ROOT = pathlib.Path(__file__).resolve().parents[2]

Name = tuple[str, int]


@dataclasses.dataclass
class Cluster:
    """Processes of one command, each with a `TF_CONFIG` of its own.

    Attributes:
      directory: where they run and where their logs are.
      command: module and flags.
      tasks: task -> number of processes.
      starts: (task, index) -> how often the process was started.
    """

    directory: pathlib.Path
    command: list[str]
    tasks: dict[str, int]
    starts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        ports = iter(_free_ports(sum(self.tasks.values())))
        self._addresses = {
            task: [f"localhost:{next(ports)}" for _ in range(count)]
            for task, count in self.tasks.items()
        }
        self._processes: dict[Name, subprocess.Popen] = {}
        self._lost: set[Name] = set()

    def run(self, *, kill: Name | None = None, once: pathlib.Path | None = None) -> None:
        """Runs all to their end; a process that fails is started again if one was killed.

        Args:
          kill: process that gets a SIGKILL,
          once: this file exists.
        """
        with self._watched() as check:
            self._start_missing()
            left, killed = set(self._processes), bool(self._lost)
            while left:
                check()
                if kill and not killed and once.exists():
                    self._kill(kill)
                    killed = True
                for name in [*left]:
                    status = self._processes[name].poll()
                    if status == 0:
                        left.remove(name)
                    elif status is not None:
                        assert killed, self.logs()
                        assert self.starts[name] < 6, self.logs()
                        self._start(*name)
            assert bool(kill) <= killed, f"{once} came too late"
        self._stop()

    def lose(self, name: Name, *, once: pathlib.Path) -> tuple[Name, float]:
        """Starts all, and kills one that nobody starts again; `run` does that, and goes on.

        Args:
          name: process that gets a SIGKILL,
          once: this file exists.

        Returns:
          The first other process that failed, and how many seconds after.
        """
        with self._watched() as check:
            self._start_missing()
            while not once.exists():
                check()
                assert all(p.poll() is None for p in self._processes.values()), self.logs()
            self._kill(name)
            since = time.monotonic()
            while True:
                check()
                for other, process in self._processes.items():
                    if other not in self._lost and process.poll() is not None:
                        assert process.returncode == 1, self.logs()
                        return other, time.monotonic() - since

    def logs(self) -> str:
        """What the processes have said last."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(encoding='utf-8')[-3000:]}"
            for path in sorted(self.directory.glob("*.log"))
        )

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Callable[[], None]]:
        """Yields what is to be called between looks; if it fails, no process is left."""
        stop = time.monotonic() + _TIMEOUT_SECONDS

        def check() -> None:
            time.sleep(0.2)
            assert time.monotonic() < stop, self.logs()

        try:
            yield check
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _kill(self, name: Name) -> None:
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()
        self._lost.add(name)

    def _start_missing(self) -> None:
        for task, count in self.tasks.items():
            for index in range(count):
                process = self._processes.get((task, index))
                if process is None or process.poll() is not None:
                    self._start(task, index)

    def _start(self, task: str, index: int) -> None:
        config = {"cluster": self._addresses, "task": {"type": task, "index": index}}
        paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self.directory / f"{task}-{index}.log").open("ab") as log:
            self._processes[task, index] = subprocess.Popen(
                [sys.executable, "-P", "-m", *self.command],
                cwd=self.directory,
                env={**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONPATH": paths},
                stdout=log,
                stderr=log,
            )
        self.starts[task, index] += 1


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
