"""Virtual environments of the peers, each from a file of pinned requirements.

Peers exclude one another (keras-rs needs Keras 3, Beam an older protobuf), and none is among the
dependencies of this project.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

_REQUIREMENTS = pathlib.Path(__file__).parent / "requirements"
_STAMP = "requirements.installed"


def environment_names() -> list[str]:
    """What can be made."""
    return sorted(path.stem for path in _REQUIREMENTS.glob("*.txt"))


def requirements_path(name: str) -> pathlib.Path:
    """The pinned requirements of an environment."""
    return _REQUIREMENTS / f"{name}.txt"


def python_of(directory: pathlib.Path, name: str | None) -> pathlib.Path:
    """The interpreter of an environment; of this process for None.

    Raises:
      LookupError: the environment was not made, or by other requirements; says how to mend it.
    """
    if name is None:
        return pathlib.Path(sys.executable)
    stamp = directory / name / _STAMP
    mend = f"make it with `python -m experiments.benchmark_environments --directory={directory}`"
    if not stamp.exists():
        raise LookupError(f"no environment '{name}' in {directory}; {mend}")
    if stamp.read_text() != requirements_path(name).read_text():
        raise LookupError(f"environment '{name}' is of other versions; {mend}")
    return directory / name / "bin" / "python"


def make_environment(directory: pathlib.Path, name: str) -> None:
    """Makes an environment, or makes it anew if its requirements have changed.

    Raises:
      RuntimeError: the installation failed.
    """
    try:
        python_of(directory, name)
        return
    except LookupError:
        pass
    place = directory / name
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(place)],
        [
            str(place / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
            f"--requirement={requirements_path(name)}",
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise RuntimeError(f"{' '.join(command)} failed. Received: {' '.join(last)}")
    (place / _STAMP).write_text(requirements_path(name).read_text())
