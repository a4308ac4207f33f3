"""Clusters of real processes on loopback, restarted as a scheduler would restart them."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

# Of all processes together, on a machine that does other work.
_TIMEOUT_SECONDS = 1800


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
        self._processes: dict[tuple[str, int], subprocess.Popen] = {}

    def run(self, *, kill: tuple[str, int] | None = None, once: pathlib.Path | None = None) -> None:
        """Runs all to their end; a process that fails is started again if one was killed.

        Args:
          kill: process that gets a SIGKILL,
          once: this file exists.
        """
        names = [(task, i) for task, count in self.tasks.items() for i in range(count)]
        stop = time.monotonic() + _TIMEOUT_SECONDS
        left, killed = set(names), False
        try:
            for name in names:
                self._start(*name)
            while left:
                time.sleep(0.2)
                assert time.monotonic() < stop, self.logs()
                if kill and not killed and once.exists():
                    self._processes[kill].send_signal(signal.SIGKILL)
                    killed = True
                for name in [*left]:
                    status = self._processes[name].poll()
                    if status == 0:
                        left.remove(name)
                    elif status is not None:
                        assert killed, self.logs()
                        assert self.starts[name] < 6, self.logs()
                        self._start(*name)
            assert bool(kill) == killed, f"{once} came too late"
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()

    def logs(self) -> str:
        """What the processes have said last."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(encoding='utf-8')[-3000:]}"
            for path in sorted(self.directory.glob("*.log"))
        )

    def _start(self, task: str, index: int) -> None:
        config = {"cluster": self._addresses, "task": {"type": task, "index": index}}
        with (self.directory / f"{task}-{index}.log").open("ab") as log:
            self._processes[task, index] = subprocess.Popen(
                [sys.executable, "-P", "-m", *self.command],
                cwd=self.directory,
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
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
