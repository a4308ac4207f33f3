"""Commands as processes that are killed at a given moment.

Processes are forked from one that has imported TensorFlow, without having used it: otherwise most
kills would hit five seconds of imports, in which nothing can go wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

_POLL = 0.1  # seconds between two looks at a process and its output
_MODULES = {
    "simulate": "data_pipeline.simulate",
    "prepare": "data_pipeline.prepare",
    "train": "experiments.train",
    "score": "experiments.score",
    "export": "experiments.export",
}
# Imports what is slow, then runs a command in a child for each line that it reads, and tells the
# child's process id and, in the end, its status.
_NURSERY = """
import importlib, os, sys
import tensorflow, tensorflow_recommenders, tf_keras, ibis, pyarrow.parquet
import clsd_tf, data_pipeline.preparation, experiments.training
from data_pipeline.cli import run_main
for line in sys.stdin:
    module, log, *arguments = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.orig_argv = [module, *arguments]
        try:
            run_main(importlib.import_module(module).main, [module, *arguments])
        except SystemExit as end:
            # Threads that were not forked along cannot be joined, as an end in order would do.
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(end.code or 0)
        os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line, and where what it says goes."""

    nursery: subprocess.Popen[str]
    module: str
    arguments: tuple[str, ...]
    log: pathlib.Path


class Commands:
    """The commands of one comparison, with small and seeded work to do."""

    def __init__(self, place: pathlib.Path, rows: int):
        """`place`: an empty directory."""
        self._place, self._rows = place, rows
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def simulate(self) -> None:
        """Makes the log."""
        log = self._place / "log"
        flags = (f"--output_dir={log}", f"--rows={self._rows}", "--users=80", "--items=60")
        Victim(self._command("simulate", flags)).run_to_end()

    def of(self, name: str, whose: str) -> Command:
        """A command with its output under `whose`, and its input from there."""
        base, log = self._place / whose, self._place / "log"
        base.mkdir(exist_ok=True)
        prepared, run = base / "prepared", base / "run"
        flags = {
            "prepare": (
                f"--spec={log / 'spec.toml'}",
                f"--input={log}",
                f"--output_dir={prepared}",
                "--num_shards=3",
                "--block_rows=64",
                "--threads=1",
            ),
            "train": (
                f"--data_dir={prepared}",
                f"--model_dir={run}",
                "--backbone=mlp",
                '--backbone_options={"units": [8]}',
                "--teacher=scores",
                "--confidence=affine",
                "--batch_size=128",
                "--checkpoint_steps=4",
                "--calibrate",
            ),
            "score": (f"--model_dir={run}", f"--data_dir={prepared}", "--splits=valid"),
            "export": (f"--model_dir={run}", "--warmup_requests=1"),
        }
        return self._command(name, flags[name])

    def __enter__(self) -> Commands:
        self.simulate()
        return self

    def __exit__(self, *exception: object) -> None:
        self._nursery.stdin.close()
        self._nursery.wait()

    def _command(self, name: str, flags: tuple[str, ...]) -> Command:
        return Command(self._nursery, _MODULES[name], flags, self._place / f"{name}.log")


@dataclasses.dataclass
class Counts:
    """What happened to a command: kills by signal, ends that came before the kill, looks taken."""

    SIGKILL: int = 0
    SIGTERM: int = 0
    too_late: int = 0
    looks: int = 0


class Victim:
    """Runs a command, or kills it; between two looks at it `watch` says what is not whole."""

    def __init__(self, command: Command, watch: Callable[[], list[str]] = list):
        """See the class."""
        self._command, self._watch = command, watch
        self.counts = Counts()
        self.problems: list[str] = []
        self.has_ended = False

    def kill(self, name: str, after: float) -> None:
        """Starts the command and kills it with signal `name` after so many seconds."""
        with self._started() as process:
            deadline = time.monotonic() + after
            while time.monotonic() < deadline and _is_alive(process):
                self._look()
                time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, getattr(signal, name))
            status = self._wait()
        if os.WIFSIGNALED(status):
            setattr(self.counts, name, getattr(self.counts, name) + 1)
        else:
            self.counts.too_late += 1
            self._ended(status)
        self._look()

    def run_to_end(self) -> float:
        """Runs the command, unless a kill came too late for it; returns its seconds.

        Raises:
          RuntimeError: it fails.
        """
        started = time.monotonic()
        if not self.has_ended:
            with self._started():
                self._ended(self._wait())
        self._look()
        return time.monotonic() - started

    def _ended(self, status: int) -> None:
        if status:
            said = self._command.log.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(
                f"{self._command.module} failed. Received: status {status}. It said: "
                f"{said.strip()[-500:]}"
            )
        self.has_ended = True

    @contextlib.contextmanager
    def _started(self) -> Iterator[int]:
        nursery = self._command.nursery
        line = "\t".join((self._command.module, str(self._command.log), *self._command.arguments))
        nursery.stdin.write(line + "\n")
        nursery.stdin.flush()
        yield int(nursery.stdout.readline())

    def _wait(self) -> int:
        return int(self._command.nursery.stdout.readline())

    def _look(self) -> None:
        self.counts.looks += 1
        self.problems += [problem for problem in self._watch() if problem not in self.problems]


def _is_alive(process: int) -> bool:
    try:
        status = pathlib.Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
