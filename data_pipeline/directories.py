"""Output directories that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def whole_directory(
    directory: str | pathlib.Path, *, mark: str, overwrite: bool = False
) -> Iterator[pathlib.Path]:
    """A directory to write to, which takes its place when the `with` block ends without an error.

    Args:
      directory: the place. An empty directory may stand there already.
      mark: a file that shows that a directory is an earlier output of the same kind.
      overwrite: whether an earlier output is replaced.

    Yields:
      An empty directory beside the place.

    Raises:
      FileExistsError: something else stands there, or an earlier output without `overwrite`.
    """
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
    beside = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        yield beside
        if directory.exists():
            shutil.rmtree(directory)
        os.rename(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
