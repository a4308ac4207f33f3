"""What all commands share: `--help`, exit status, one-sentence errors, progress, results.

A command is a module whose docstring starts with how it is called, with flags defined at import, a
`main(argv)` that raises on failure, and `cli()` that passes it to `run_main`.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from absl import app, flags, logging
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_HELP = ("--help", "-help", "--helpfull", "-h")


def run_main(main: Callable[[list[str]], None]) -> NoReturn:
    """Runs a command and ends the process.

    Exit status 0: done, or `--help`. 1: the work failed; an expected error (ValueError, OSError,
    RuntimeError) is one message on standard error, with its traceback at `--verbosity=1`. 2: wrong
    flags.
    """
    # TensorFlow reports its build and the absence of a GPU otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    name = _program()

    def parse(argv: Sequence[str]) -> list[str]:
        if set(argv[1:]) & set(_HELP):
            print(_help(main), flush=True)
            sys.exit(0)
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            _refuse(name, str(error))
        if rest[1:]:
            _refuse(name, f"arguments that are no flags: {' '.join(rest[1:])}")
        return rest

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, RuntimeError) as error:
            if logging.level_debug():
                raise
            print(f"{name}: {_message(error)}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"{name}: interrupted.", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=parse)
    sys.exit(0)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes JSON, whole or not at all; numbers that are not finite become null."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    text = json.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)


def write_results(
    path: str | os.PathLike, *, config: Mapping[str, object], metrics: Mapping[str, object]
) -> None:
    """Writes the `results.json` of a command, and its path as the last line of standard output."""
    command = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
    write_json(path, {"command": command, "config": config, "metrics": metrics})
    print(path, flush=True)


def progress_bar() -> Progress:
    """A bar on standard error, for long work; a context manager, see `rich.progress`."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )


def _program() -> str:
    """The command as its user typed it."""
    called = pathlib.Path(sys.argv[0])
    return called.name if called.suffix != ".py" else f"{called.parent.name}.{called.stem}"


def _help(main: Callable[[list[str]], None]) -> str:
    module = main.__globals__["__name__"]
    # absl files the flags of the module that is run under the path of its file.
    listed = flags.FLAGS.module_help(sys.argv[0] if module == "__main__" else module)
    _, _, listed = listed.partition(":\n")  # the module's name
    return f"{main.__globals__['__doc__'].strip()}\n\nFlags:\n{listed}"


def _refuse(name: str, message: str) -> NoReturn:
    print(f"{name}: {message}\nSee {name} --help.", file=sys.stderr)
    sys.exit(2)


def _message(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _plain(value: object) -> object:
    """What JSON can hold: no NumPy numbers, no paths, no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
