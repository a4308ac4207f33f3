"""A command in a process of its own; a step runs it once, from its start to its end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

from worker_protocol import serve


class CommandWorker:
    """Options: "arguments" of this interpreter, "examples" of a run, "remove" (None or a path)."""

    def prepare(self, options: dict) -> dict:
        """Remembers the command."""
        self._options = options
        return {}

    def run(self, steps: int) -> tuple[int, dict[str, float]]:
        """Runs the command, after what an earlier run has left is removed."""
        peak = 0.0
        for _ in range(steps):
            if self._options.get("remove"):
                shutil.rmtree(self._options["remove"], ignore_errors=True)
            process = subprocess.Popen(
                [sys.executable, *self._options["arguments"]], stdout=subprocess.DEVNULL
            )
            watch = _PeakOf(process.pid)
            watch.start()
            status = process.wait()
            watch.join()
            peak = max(peak, watch.peak_bytes)
            if status:
                raise RuntimeError(f"The command ended with status {status}, see the log.")
        return steps * self._options["examples"], {"peak_bytes": peak}


class _PeakOf(threading.Thread):
    """Reads the most memory that a process has held, until it ends."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._path = f"/proc/{pid}/status"
        self.peak_bytes = 0.0

    def run(self) -> None:
        while True:
            try:
                with open(self._path, encoding="utf-8") as status:
                    found = [line for line in status if line.startswith("VmHWM:")]
            except OSError:
                return
            if not found:  # it has ended, and gave its memory back
                return
            self.peak_bytes = 1024.0 * int(found[0].split()[1])
            time.sleep(0.05)


if __name__ == "__main__":
    serve(CommandWorker())
