"""Names and paths that come from files of others, before they become paths here."""

from __future__ import annotations

import pathlib

_MAX_BYTES = 200  # most file systems take 255, endings included


def name_problem(name: str) -> str | None:
    """What keeps `name` from being that of a file; None if nothing does.

    Columns name vocabularies and side tables name quarantines, so that a name such as "../x" would
    be written outside of its directory.
    """
    if not name.strip():
        return "A name must not be empty."
    if any(mark in name for mark in "/\\") or name in (".", ".."):
        return f"A name must be no path. Received: {name!r}. Rename it and set `source`."
    if not name.isprintable():
        return f"A name must be printable. Received: {name!r}. Rename it and set `source`."
    if len(name.encode()) > _MAX_BYTES:
        return f"A name has at most {_MAX_BYTES} bytes. Received: {len(name.encode())}."
    return None


def stays_below(pattern: str) -> bool:
    """Whether a relative path, or a glob, cannot leave the directory that it is looked for in."""
    path = pathlib.PurePath(pattern)
    return (
        bool(pattern) and "\0" not in pattern and not path.is_absolute() and ".." not in path.parts
    )


def is_file_name(name: object) -> bool:
    """Whether `name` is that of a file in a directory, and no way out of it."""
    return isinstance(name, str) and name_problem(name) is None
