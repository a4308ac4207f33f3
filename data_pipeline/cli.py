"""What every command has in common: help, exit statuses, errors in one sentence, results as JSON.

A command is a module with absl flags and a docstring whose examples can be pasted:

    def main(argv: list[str]) -> None: ...

    def cli() -> None:
        run_main(main)
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

from absl import app, flags, logging
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

FAILED, WRONG_FLAGS, INTERRUPTED = 1, 2, 130
# What a command raises to say that its work cannot be done. Anything else is a defect of the
# command, and its traceback is shown.
_EXPECTED = (ValueError, OSError, RuntimeError)
_DEFECTS = (NotImplementedError, RecursionError)
_FREE = "Make room, or choose another directory; then give the same command again."
_ALLOW = "Choose a directory that may be written to, or have the permission changed."
# What mends an error of the operating system, by its number.
_ADVICE = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "The disk, or a limit of the process, takes no larger files. " + _FREE,
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: _ALLOW,
    errno.EEXIST: "Choose another place.",
    errno.ENOTDIR: "A file stands where a directory is expected; choose another place.",
    errno.EISDIR: "A directory stands where a file is expected; choose another place.",
    errno.ENOENT: "Check the path.",
    errno.EMFILE: "Allow more open files (`ulimit -n`).",
}
# The same of errors of TensorFlow that are not defects of a command, by their names.
_TENSORFLOW_ADVICE = {
    "DataLossError": "A file is damaged: copy it again, or make it again.",
    "NotFoundError": "Check the path.",
    "PermissionDeniedError": _ALLOW,
    "ResourceExhaustedError": "Memory or disk is full. " + _FREE,
    "UnavailableError": "Give the same command again.",
}
_HELP = ("--help", "-help", "--h", "-h", "-?")


def run_main(main: Callable[[list[str]], None], argv: list[str] | None = None) -> None:
    """Runs the `main` of a command and exits the process.

    The status is 0 when the work is done, or help was asked for; 1 when it failed; 2 when flags
    are wrong. An expected error (see `sentence`) is its message on standard error; with `--v=1`
    its traceback comes first.

    Args:
      main: gets the name of the program alone, unless its module has `ARGUMENTS`, which says what
        arguments beside flags it takes.
      argv: name of the program and flags; those of the process by default.
    """
    module = sys.modules[main.__module__]

    def parse(arguments: list[str]) -> list[str]:
        try:
            return _parse_flags(module, arguments)
        except flags.Error as error:
            _stop(f"{error}\nPass --help to see the flags.", WRONG_FLAGS)

    def run(arguments: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TensorFlow tells a lot at INFO
        try:
            main(arguments)
        except KeyboardInterrupt:
            _stop("Interrupted.", INTERRUPTED)
        except app.UsageError as error:
            _stop(f"{error}\nPass --help to see the flags.", WRONG_FLAGS)
        except Exception as error:
            if (message := sentence(error)) is None:
                raise
            if logging.level_debug():
                logging.exception("Traceback of the error below:")
            _stop(message, FAILED)

    app.run(run, argv=argv, flags_parser=parse)


def sentence(error: Exception) -> str | None:
    """What a command says of an error that is no defect of it; None of one that is.

    Those are ValueError, OSError, RuntimeError and what TensorFlow says of files and of room.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        advice = _TENSORFLOW_ADVICE.get(type(error).__name__)
        # What follows the first line is where in TensorFlow, not what.
        return None if advice is None else f"{error.message.splitlines()[0].rstrip('.')}. {advice}"
    if isinstance(error, _DEFECTS) or not isinstance(error, _EXPECTED) or not str(error):
        return None
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        advice = _ADVICE.get(error.errno, "")
        return f"{where}{error.strerror[0].lower()}{error.strerror[1:]}. {advice}".strip()
    return str(error)


def load_tensorflow() -> None:
    """Imports TensorFlow without what it says of its build and of GPUs that are not there.

    Those lines come from C++ and heed no log level. If the import fails, they are shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_logical_devices()  # starts the runtime, which has more to say
        except BaseException:
            hidden.seek(0)
            os.write(shown, hidden.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def write_json(path: str | pathlib.Path, obj: object) -> None:
    """Writes `obj` as JSON to `path`, whole or not at all.

    NumPy values become numbers and lists, paths strings. NaN and infinities, which JSON lacks,
    become null.

    Raises:
      TypeError: something in `obj` has no form in JSON.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_results(
    path: str | pathlib.Path, *, config: Mapping[str, object], metrics: Mapping[str, object]
) -> None:
    """Writes `results.json` with the command line, and prints its path as last line of stdout."""
    write_json(path, {"command": sys.orig_argv, "config": config, "metrics": metrics})
    print(pathlib.Path(path), flush=True)


@contextlib.contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error, and then how long it took.

    Yields:
      A function to be called with the number of rows, or whatever is counted, that were added.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console, started = Console(stderr=True), time.monotonic()
    hidden = not console.is_terminal
    columns += (TimeRemainingColumn(),)
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)
    _print_done(console, description, started)


@contextlib.contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Shows on standard error what is being done, and how long each step took.

    Yields:
      A function to be called with the name of each step as it begins.
    """
    console, current = Console(stderr=True), []
    with console.status("") as status:

        def begin(description: str) -> None:
            end()
            current[:] = [description, time.monotonic()]
            status.update(f"{description} ...")

        def end() -> None:
            if current:
                _print_done(console, *current)

        yield begin
        end()


def _print_done(console: Console, description: str, started: float) -> None:
    console.print(f"{description}: {time.monotonic() - started:.1f} s", highlight=False)


def _parse_flags(module: object, arguments: list[str]) -> list[str]:
    """Parses the flags. Raises flags.Error; exits with 0 after help."""
    if any(a in _HELP for a in _before_terminator(arguments)):
        # absl would show the flags of the process's main module, which for a console script is not
        # the command's, and exit with 1.
        described = flags.FLAGS.module_help(module).partition(":\n")[2]
        print(f"{(module.__doc__ or '').strip()}\n\nFlags:\n{described}")
        print("\nPass --helpfull to see the flags of all modules.")
        sys.exit(0)
    try:
        rest = flags.FLAGS(arguments)
    except SystemExit:  # absl's other help flags; it would exit with 1
        sys.exit(0)
    if len(rest) > 1 and not hasattr(module, "ARGUMENTS"):
        raise flags.Error(f"Every argument is a flag. Received: {' '.join(rest[1:])}.")
    return rest


def _before_terminator(arguments: list[str]) -> list[str]:
    return arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:]


def _stop(message: str, status: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)


def _plain(value: object) -> object:
    """`value` in what JSON knows; what has no form there is left to fail by its type."""
    if isinstance(value, Mapping):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
