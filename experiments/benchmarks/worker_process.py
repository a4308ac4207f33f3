"""A worker of the benchmark, as its driver sees it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Mapping

WORKERS = pathlib.Path(__file__).parent / "workers"
_SECONDS_TO_END = 20


class WorkerError(RuntimeError):
    """A worker could not do what it was asked to."""


class WorkerProcess:
    """A process that speaks `workers/worker_protocol.py`.

    It is stopped between requests: readers would go on to fill their buffers, for which nobody
    would count the cost.

    Args:
      python: interpreter of its environment.
      script: of the worker.
      log: file that gets its standard error.
    """

    def __init__(self, python: pathlib.Path, script: pathlib.Path, log: pathlib.Path):
        """Starts it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        # Variables that could change what is measured are the worker's own to set.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTHON"))}
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**environment, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def prepare(self, options: Mapping[str, object]) -> dict[str, object]:
        """Lets it get ready. Raises WorkerError."""
        return self._ask(command="prepare", options=options)["info"]

    def run(self, steps: int) -> dict[str, float]:
        """Lets it do its work, and returns what it cost. Raises WorkerError."""
        return self._ask(command="run", steps=steps)

    def stop(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.stdin.close()
            try:
                self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()

    def _ask(self, **request: object) -> dict:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            self._process.send_signal(signal.SIGCONT)
            line = self._process.stdout.readline()
            if line:  # one that is ending has to be let
                self._process.send_signal(signal.SIGSTOP)
        except OSError:  # it has ended
            line = ""
        if not line:
            self._process.wait()
            raise WorkerError(f"ended with status {self._process.returncode}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"nothing in {self._log}"
