"""Versions of a served model: directories `<base>/<positive integer>`, the largest the latest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Iterator

_UNFINISHED = re.compile(r"\.[0-9]+\.[0-9]+\.(tmp|removed)")


def list_versions(base: str | pathlib.Path) -> list[int]:
    """Versions in `base`, rising; other names, such as those of unfinished ones, are left out."""
    names = (path.name for path in pathlib.Path(base).glob("*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and int(name) > 0)


@contextlib.contextmanager
def new_version(
    base: str | pathlib.Path, version: int | None = None
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields a directory to be filled and the path that it gets when the block ends without error.

    It lies beside the version under a name that is no integer, which a polling server passes over;
    then it is renamed: the server sees the whole version or none. What killed processes have left
    is removed.

    Args:
      base: path of the model.
      version: positive; None for the one after the latest.

    Raises:
      FileExistsError: the version exists.
      ValueError: the version is not positive.
    """
    base = pathlib.Path(base)
    version = 1 + max(list_versions(base), default=0) if version is None else version
    if version < 1:
        raise ValueError(f"`version` must be a positive integer. Received: {version}.")
    target = base / str(version)
    if target.exists():
        raise _exists(base, version)
    _remove_left_overs(base)
    # Two exports at once do not share it.
    beside = base / f".{version}.{os.getpid()}.tmp"
    descriptor = _made_and_locked(beside)
    try:
        yield beside, target
        try:
            os.rename(beside, target)
        except OSError as error:  # another export was faster
            if target.exists():
                raise _exists(base, version) from error
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(descriptor)


def remove_old_versions(
    base: str | pathlib.Path, keep: int, protected: Collection[int] = ()
) -> list[int]:
    """Removes all but the `keep` latest versions.

    Args:
      base: path of the model.
      keep: >= 1.
      protected: versions that stay in any case, because a label points to them.

    Returns:
      The versions that were removed.

    Raises:
      ValueError: nothing would be kept.
    """
    if keep < 1:
        raise ValueError(f"`keep` must be at least 1 version. Received: {keep}.")
    base = pathlib.Path(base)
    removed = [v for v in list_versions(base)[:-keep] if v not in protected]
    for version in removed:
        # Renamed first: no server finds a version of which files are gone already.
        gone = base / f".{version}.{os.getpid()}.removed"
        os.rename(base / str(version), gone)
        shutil.rmtree(gone)
    return removed


def _made_and_locked(directory: pathlib.Path) -> int:
    """Makes a directory that is known to be in use until its descriptor is closed."""
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            # Some file systems have no locks; there, what is left over stays.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(directory), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:  # another process took it for left over before it was locked
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove_left_overs(base: pathlib.Path) -> None:
    """Removes directories that killed processes were filling, or removing."""
    for path in base.glob(".*"):
        if not _UNFINISHED.fullmatch(path.name) or not path.is_dir():
            continue
        with contextlib.suppress(OSError):  # in use, gone, or not ours to remove
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)


def _exists(base: pathlib.Path, version: int) -> FileExistsError:
    return FileExistsError(
        f"Version {version} exists in {base}. Choose another one, or leave `version` out for the "
        "next."
    )
