"""Input services as real processes on loopback."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
_SECONDS_TO_END = 20


class ServiceProcess:
    """A `clsd-input-service`, which is killed at the end of the `with` block.

    Attributes:
      address: that it has printed.
    """

    def __init__(self, directory: pathlib.Path, *flags: str):
        self._log = (directory / f"service-{len(list(directory.glob('service-*')))}.log").open("wb")
        # What a shell runs in its background ignores Ctrl-C, and so does what that starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "data_pipeline.input_service", "--quiet", *flags],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        signal.signal(signal.SIGINT, before)
        self.address = self._process.stdout.readline().strip()
        assert self.address, pathlib.Path(self._log.name).read_text()

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end(signal.SIGKILL)
        self._process.stdout.close()
        self._log.close()

    def end(self, number: int) -> int:
        """Sends a signal, and returns the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(_SECONDS_TO_END)


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]
