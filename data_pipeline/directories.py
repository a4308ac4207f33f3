"""Output directories that appear whole or not at all, and that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from absl import logging

# What file systems say that have none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class BusyError(RuntimeError):
    """Another process is writing to the same place."""


@contextlib.contextmanager
def whole_directory(
    directory: str | pathlib.Path, *, mark: str, overwrite: bool = False
) -> Iterator[pathlib.Path]:
    """A directory to write to, which takes its place when the `with` block ends without an error.

    What a killed process has left of it is removed by the next one.

    Args:
      directory: the place. An empty directory may stand there already.
      mark: a file that shows that a directory is an earlier output of the same kind.
      overwrite: whether an earlier output is replaced.

    Yields:
      An empty directory beside the place.

    Raises:
      FileExistsError: something else stands there, or an earlier output without `overwrite`.
      BusyError: another process is writing it.
    """
    directory = pathlib.Path(directory).absolute()
    check_free(directory, mark=mark, overwrite=overwrite)
    beside = directory.with_name(f".{directory.name}.tmp")
    replaced = directory.with_name(f".{directory.name}.replaced")
    with only_writer(directory):
        if replaced.exists() and not directory.exists():  # killed between two renames
            os.rename(replaced, directory)
        # Again: another process may have ended just now.
        check_free(directory, mark=mark, overwrite=overwrite)
        for left in (beside, replaced):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            if directory.exists():
                os.rename(directory, replaced)
            try:
                os.rename(beside, directory)
            except OSError:
                if replaced.exists():
                    os.rename(replaced, directory)
                raise
        finally:
            for left in (beside, replaced):
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write to, which takes its place when the `with` block ends without an error.

    What a killed process has left of it is overwritten by the next. One process writes at a time.

    Args:
      path: the place. Its directory is made if need be.

    Yields:
      A path beside the place.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(directory: str | pathlib.Path) -> Iterator[None]:
    """Keeps other processes from writing to `directory` inside of the `with` block.

    The lock belongs to the process and not to the file `.<name>.lock` beside the directory: it ends
    with the process, however that ends, and no clock is asked.

    Raises:
      BusyError: another process holds it.
    """
    directory = pathlib.Path(directory).absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = directory.with_name(f".{directory.name}.lock")
    descriptor = _locked(path)
    if descriptor is None:
        raise BusyError(
            f"{directory} is being written by another process. Received: its lock is held. "
            "Expected: one process at a time. Wait until it has ended, or choose another directory."
        )
    try:
        yield
    finally:
        # Removed while it is held: who opens it meanwhile sees that it is gone, and opens it anew.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: pathlib.Path) -> int | None:
    """Descriptor of the lock file, or None if another process holds it."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logging.warning(
                    "%s: this file system has no locks. Two processes that write to one directory "
                    "at once are not noticed there.",
                    path.parent,
                )
                return descriptor
            os.close(descriptor)
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_same(path: pathlib.Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def check_free(directory: str | pathlib.Path, *, mark: str, overwrite: bool = False) -> None:
    """Raises FileExistsError unless an output may take that place, see `whole_directory`."""
    directory = pathlib.Path(directory).absolute()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        if not (directory / mark).is_file():
            files = (
                sorted(p.name for p in directory.iterdir()) if directory.is_dir() else ["a file"]
            )
            found = ", ".join(files[:5])
            raise FileExistsError(
                f"{directory} holds other files. Received: {found}. Expected: an empty folder, or "
                "none. Choose another --output_dir."
            )
        if not overwrite:
            raise FileExistsError(
                f"{directory} holds an earlier output. Received: {mark} there. Expected: an empty "
                "folder, or none. Give --overwrite to replace it, or choose another --output_dir."
            )
