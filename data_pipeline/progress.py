"""What is seen of long work while it lasts: one mechanism for every command.

On a terminal a bar with rate and time left. In a log file plain lines: one after 3 seconds, then
one every 30. With `--quiet`, which every command has, nothing: errors and results stay.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from absl import flags
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

QUIET = flags.DEFINE_bool("quiet", False, "Show no progress; errors and results stay.")

# The bar that is shown.
_BARS: list[Progress] = []
# Seconds until a log file gets its first line, and between lines.
_FIRST, _EVERY = 3.0, 30.0


def is_quiet() -> bool:
    """Whether `--quiet` was given; outside of commands it was not."""
    return flags.FLAGS.is_parsed() and QUIET.value


class Progress:
    """Work that is counted, on the standard error of when it began.

    What is written to `sys.stderr` while it lasts may go elsewhere; the bar stays where it is.

    Args:
      description: what is done.
      total: how much there is to do; None where that is not known.
      unit: of what is counted, in the plural.
      first: seconds until the first line in a log file.
      every: seconds between lines in a log file.
      file: another place than standard error.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        unit: str = "rows",
        *,
        first: float = _FIRST,
        every: float = _EVERY,
        file: TextIO | None = None,
    ):
        """See the class."""
        self._console = Console(file=file or sys.stderr)
        self._is_quiet = is_quiet()
        self._is_bar = self._console.is_terminal and not self._is_quiet
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        columns += [BarColumn()] * (total is not None) + [_Told()]
        self._bars = Bars(
            *columns,
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._is_bar,
        )
        self._unit = unit
        self._id = self._bars.add_task(description, total=total, unit=unit, note="")
        self._times = (first, every)
        self._is_new = self._is_inner = False
        self._over = threading.Event()
        self._lines: threading.Thread | None = None

    def __enter__(self) -> Progress:
        outer = next(iter(_BARS), None)
        if self._is_bar and outer is not None:
            # A terminal has room for one bar; what stays is written above it.
            self._is_inner, self._console, self._bars.disable = True, outer._console, True
        elif self._is_bar:
            _BARS.append(self)
        self._bars.start()
        if not self._is_bar and not self._is_quiet:
            self._lines = threading.Thread(target=self._write_lines, daemon=True)
            self._lines.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._lines is not None:
            self._lines.join()
        self._bars.stop()
        if self in _BARS:
            _BARS.remove(self)

    @property
    def seconds(self) -> float:
        """Since it began, or began anew."""
        return self._task.elapsed or 0.0

    def advance(self, count: int) -> None:
        """Counts what was done."""
        self._bars.advance(self._id, count)

    def move_to(self, completed: int, note: str = "") -> None:
        """Says how much is done in all, and something about it, such as the loss."""
        self._bars.update(self._id, completed=completed, note=note)

    def restart(self, description: str, completed: int = 0) -> None:
        """Begins anew with something else, of which `completed` was done before."""
        self._bars.reset(
            self._id, description=description, completed=completed, unit=self._unit, note=""
        )
        self._is_new = True

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        if not self._is_quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def say_done(self) -> None:
        """Writes how long it took, unless it is a part of what a bar shows already."""
        if self._is_inner:
            return
        self.say(f"{self._task.description}: {self.seconds:.1f} s")

    @property
    def _task(self) -> Task:
        return self._bars.tasks[0]

    def _write_lines(self) -> None:
        first, every = self._times
        due = wait = first
        while not self._over.wait(wait):
            if self._is_new:
                due, self._is_new = first, False
            left = due - self.seconds
            if left <= 0.0:
                self.say(f"{self._task.description} ... {told(self._task)}")
                due = self.seconds + every
            # Not longer: something else may begin meanwhile.
            wait = first if left <= 0.0 else min(left, first)


@contextlib.contextmanager
def progress(
    description: str, total: int | None = None, unit: str = "rows"
) -> Iterator[Callable[[int], None]]:
    """Shows how far one piece of work is, and then how long it took.

    Yields:
      A function to be called with the number of rows, or whatever is counted, that were added.
    """
    with Progress(description, total, unit) as bar:
        yield bar.advance
    bar.say_done()


@contextlib.contextmanager
def waiting(description: str, file: TextIO | None = None) -> Iterator[None]:
    """Shows on standard error or in `file` that something lasts; leaves no line behind."""
    with Progress(description, file=file):
        yield


@contextlib.contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Shows what is being done, and how long each step took.

    Yields:
      A function to be called with the name of each step as it begins.
    """
    begun: list[str] = []
    with Progress("") as bar:

        def begin(description: str) -> None:
            end()
            begun[:] = [description]
            bar.restart(description)

        def end() -> None:
            if begun:
                bar.say_done()

        yield begin
        end()


def told(task: Task) -> str:
    """How far a task is: what is done, its rate, the time left and its note."""
    seconds = int(task.elapsed or 0)
    if task.total is None and not task.completed:
        return f"{datetime.timedelta(seconds=seconds)}"
    unit = task.fields["unit"]
    parts = [f"{task.completed:,.0f} {unit}"]
    if task.total is not None:
        parts = [f"{task.completed:,.0f} of {task.total:,.0f} {unit}"]
    if task.speed:
        slow = task.speed < 1.0
        parts.append(f"{1 / task.speed:.1f} s each" if slow else f"{task.speed:,.0f}/s")
    if task.time_remaining is not None and not task.finished:
        parts.append(f"{datetime.timedelta(seconds=int(task.time_remaining))} left")
    if task.fields["note"]:
        parts.append(task.fields["note"])
    return ", ".join(parts)


class _Told(ProgressColumn):
    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        return Text(told(task))
