"""What every command has in common: help, exit statuses, errors in one sentence, results as JSON.

A command is a module with absl flags and a docstring whose examples can be pasted:

    def main(argv: list[str]) -> None: ...

    def cli() -> None:
        run_main(main)
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import math
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from absl import app, flags, logging

from data_pipeline import flag_errors
from data_pipeline.progress import QUIET, waiting

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


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Modules that are imported here stay for good: they are not searched for garbage.

    A fifth of the time in which TensorFlow is imported goes into that search.
    """
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load_tensorflow(*, start_runtime: bool = True) -> None:
    """Imports TensorFlow without what it says of its build and of GPUs that are not there.

    Those lines come from C++ and heed no log level. If the import fails, they are shown.

    Args:
      start_runtime: whether to let it look for devices now. Not before a strategy of several
        processes is made, which decides how the runtime starts.
    """
    # Chooses Keras 2. TensorFlow would load Keras 3 too, which loads matplotlib where it is there.
    import clsd_tf  # noqa: F401

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.fdopen(os.dup(2), "w")
    with shown, tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            with waiting("Loading TensorFlow", file=shown), _no_garbage():
                import tensorflow as tf

                if start_runtime:
                    tf.config.list_logical_devices()  # this has more to say
        except BaseException:
            hidden.seek(0)
            shown.flush()
            os.write(shown.fileno(), hidden.read())
            raise
        finally:
            os.dup2(shown.fileno(), 2)


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


def _parse_flags(module: types.ModuleType, arguments: list[str]) -> list[str]:
    """Parses the flags. Raises flags.Error; exits with 0 after help."""
    if any(a in _HELP for a in _before_terminator(arguments)):
        # absl would show the flags of the process's main module, which for a console script is not
        # the command's, and exit with 1.
        name = sys.argv[0] if module.__name__ == "__main__" else module.__name__
        flags.FLAGS.register_key_flag_for_module(name, flags.FLAGS[QUIET.name])
        described = flags.FLAGS.module_help(module).partition(":\n")[2]
        print(f"{(module.__doc__ or '').strip()}\n\nFlags:\n{described}")
        print("\nPass --helpfull to see the flags of all modules.")
        sys.exit(0)
    try:
        rest = flag_errors.parse(flags.FLAGS, arguments)
    except SystemExit:  # absl's other help flags; it would exit with 1
        sys.exit(0)
    if len(rest) > 1 and not hasattr(module, "ARGUMENTS"):
        raise flags.Error(
            f"Every argument is a flag. Received: {' '.join(rest[1:])}. Expected: flags alone, as "
            "--name=value."
        )
    return rest


def _before_terminator(arguments: list[str]) -> list[str]:
    return arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:]


def _stop(message: str, status: int) -> NoReturn:
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
