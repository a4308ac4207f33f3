"""Whose code a run may name: a directory from elsewhere must not have it imported by being read."""

from __future__ import annotations

import os
import pathlib

_TRUSTED_MODULES = "CLSD_TRUSTED_MODULES"
_trusted: set[str] = set()


def trust(backbone: str) -> None:
    """Allows runs that are read from now on to name this backbone: its user has named it here."""
    _trusted.add(backbone.partition(":")[0])


def require_trusted(backbone: str, path: pathlib.Path) -> None:
    """Raises ValueError where a run names code that is neither this package's nor trusted.

    A directory from elsewhere could otherwise have any module imported that lies on the path.
    `CLSD_TRUSTED_MODULES` names further modules, with commas between them.
    """
    module, is_elsewhere, _ = backbone.partition(":")
    trusted = _trusted | set(os.environ.get(_TRUSTED_MODULES, "").split(","))
    if is_elsewhere and module not in trusted:
        raise ValueError(
            f"{path} names a backbone outside of this package. Received: {backbone!r}. If you "
            f"trust the run, set {_TRUSTED_MODULES}={module}; the module is then imported."
        )
