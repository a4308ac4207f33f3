"""What long work says: bars on a terminal, lines in a log file, nothing with --quiet."""

from __future__ import annotations

import io
import re
import threading

import pytest
from absl import flags

from data_pipeline import progress as module
from data_pipeline.progress import Progress, progress, steps, waiting
from tests import mains


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(module, "is_quiet", lambda: True)


@pytest.fixture
def colour(monkeypatch):
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def wait_for(text: str, file: io.StringIO) -> None:
    """Until the thread that writes lines has written one."""
    told = threading.Event()
    for _ in range(500):
        if text in file.getvalue():
            return
        told.wait(0.01)
    raise AssertionError(f"There is no {text!r} in {file.getvalue()!r}.")


def test_a_log_file_gets_plain_lines_with_rate_and_time_left():
    file = io.StringIO()
    with Progress("Scoring [train]", 10_000, "rows", first=0.01, every=0.01, file=file) as bar:
        bar.advance(2_000)
        threading.Event().wait(0.02)
        bar.advance(2_000)
        wait_for("4,000 of 10,000", file)
    lines = file.getvalue().splitlines()
    assert re.fullmatch(
        r"Scoring \[train\] \.\.\. 4,000 of 10,000 rows, [\d,]+/s, \d:\d\d:\d\d left", lines[-1]
    )
    assert "\x1b" not in file.getvalue()


def test_short_work_leaves_one_line(capsys):
    with progress("Writing 10 rows", 10) as advance:
        advance(10)
    assert re.fullmatch(r"Writing 10 rows: \d+\.\d s\n", capsys.readouterr().err)


def test_steps_leave_a_line_each(capsys):
    with steps() as begin:
        begin("Reading")
        begin("Sorting")
    assert re.fullmatch(r"Reading: \d\.\d s\nSorting: \d\.\d s\n", capsys.readouterr().err)


def test_a_step_that_fails_leaves_no_line(capsys):
    with pytest.raises(OSError, match="no disk"), steps() as begin:
        begin("Reading")
        raise OSError("no disk")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(colour):
    file = Terminal()
    with Progress("Scoring", 100, file=file) as bar:
        bar.move_to(50, "loss 0.5000")
        bar._bars.refresh()
    shown = file.getvalue()
    assert "50 of 100 rows" in shown
    assert "loss 0.5000" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the bar is wiped away when it is over


def test_what_stays_is_written_above_a_bar(colour):
    file = Terminal()
    with Progress("fits", 2, "fits", file=file) as bar:
        bar.say("plain, seed 0: 3.0 s [ok]")
    assert "plain, seed 0: 3.0 s [ok]" in file.getvalue()


def test_a_bar_within_a_bar_is_not_drawn(colour):
    file = Terminal()
    with Progress("days", 3, "days", file=file) as outer:
        with Progress("rows of a day", 5, file=file) as inner:
            inner.advance(5)
            inner.say("a day is done")
        inner.say_done()
        outer.advance(1)
    assert "rows of a day" not in file.getvalue()
    assert "a day is done" in file.getvalue()
    with Progress("alone", 3, file=file) as alone:
        alone._bars.refresh()
    assert "0 of 3 rows" in file.getvalue()


def test_slow_work_tells_seconds_of_each(monkeypatch):
    clock = iter(range(0, 1000, 10))
    file = io.StringIO()
    bar = Progress("fits", 4, "fits", file=file)
    bar._bars.get_time = lambda: next(clock)
    bar.restart("fits")
    bar.advance(1)
    bar.advance(1)
    assert "s each" in module.told(bar._task)
    assert "2 of 4 fits" in module.told(bar._task)


def test_work_of_unknown_length_tells_its_time():
    bar = Progress("Reading", file=io.StringIO())
    assert re.fullmatch(r"\d:\d\d:\d\d", module.told(bar._task))


def test_quiet_is_silent_everywhere(quiet, capsys, colour):
    file = Terminal()
    with Progress("fits", 3, first=0.01, every=0.01, file=file) as bar:
        bar.advance(1)
        bar.say("a line")
        threading.Event().wait(0.05)
        bar.say_done()
    with progress("rows", 3) as advance:
        advance(3)
    with steps() as begin:
        begin("something")
    with waiting("something", file=file):
        pass
    assert file.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_every_command_has_the_flag():
    """It is defined where all mains get their entry point from, and is theirs in --help."""
    assert flags.FLAGS["quiet"].help == "Show no progress; errors and results stay."
    import data_pipeline.cli

    assert data_pipeline.cli.QUIET is module.QUIET


def test_a_command_with_quiet_says_its_results_alone(tmp_path):
    small = ("--rows=400", "--users=20", "--items=9", f"--output_dir={tmp_path / 'log'}")
    try:
        done = mains.run("data_pipeline.simulate", "--quiet", *small)
    finally:
        flags.FLAGS["quiet"].unparse()
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{tmp_path / 'log' / 'results.json'}\n"
    assert "--[no]quiet" in mains.run("data_pipeline.simulate", "--help").out
