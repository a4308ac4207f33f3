"""Ready specs of public click logs, and the adapters of those that need one."""

from __future__ import annotations

import pathlib


def ready_specs() -> dict[str, pathlib.Path]:
    """Name -> TOML file of each spec that comes with the package."""
    return {path.stem: path for path in sorted(pathlib.Path(__file__).parent.glob("*.toml"))}


def spec_path(name_or_path: str | pathlib.Path) -> pathlib.Path:
    """The file of a ready spec given by name (`kuairand`), or of a spec given by path.

    Raises:
      FileNotFoundError: it is neither; the message lists the names.
    """
    known = ready_specs()
    path = known.get(str(name_or_path), pathlib.Path(name_or_path))
    if not path.is_file():
        message = (
            f"There is no such spec. Received: {str(name_or_path)!r}. Expected: the path of a TOML "
            f"file, or the name of a ready spec: {', '.join(known)}."
        )
        raise FileNotFoundError(message)
    return path
