"""Tests an installed wheel: check_wheel.py CHECKOUT PYTHON_WITH_DEPENDENCIES.

Runs in an environment that holds nothing but the wheel, from a directory outside the checkout. The
dependencies are borrowed from another environment, whose own `clsd_tf` has to stay out of sight.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import sysconfig

PACKAGES = ("clsd_tf", "data_pipeline", "experiments")


def borrow_dependencies(python: str) -> None:
    """Appends the site-packages of `python` to this environment; its .pth files are not read."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    lender = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    # A path in a .pth file is appended: the wheel's own packages come first.
    own = pathlib.Path(sysconfig.get_path("purelib"))
    (own / "dependencies.pth").write_text(lender.stdout, encoding="utf-8")


def check_origin(checkout: pathlib.Path) -> None:
    """Packages are those of the wheel, data files included, and nothing else came along."""
    own = pathlib.Path(sysconfig.get_path("purelib"))
    for package in PACKAGES:
        origin = pathlib.Path(importlib.util.find_spec(package).origin)
        if not origin.is_relative_to(own):
            raise SystemExit(f"{package} comes from {origin}, not from the wheel in {own}.")
        source, installed = checkout / package, own / package
        for pattern in ("**/*.py", "**/*.toml", "**/*.txt", "**/templates/*"):
            wanted = {path.relative_to(source) for path in source.glob(pattern)}
            missing = wanted - {path.relative_to(installed) for path in installed.glob(pattern)}
            if missing:
                raise SystemExit(f"The wheel lacks {sorted(map(str, missing))} of {package}.")
    if not list((own / "data_pipeline" / "datasets").glob("*.toml")):
        raise SystemExit("The wheel has no specs under data_pipeline/datasets.")
    strangers = [name for name in ("tests", "docs") if (own / name).exists()]
    if strangers:
        raise SystemExit(f"The wheel brings {strangers} along.")


def check_commands() -> None:
    """Each console script answers `--help`, quietly and with examples."""
    scripts = pathlib.Path(sysconfig.get_path("scripts"))
    entry_points = importlib.metadata.distribution("clsd_tf").entry_points
    for entry_point in entry_points:
        command = [scripts / entry_point.name, "--help"]
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
        if answer.returncode != 0:
            raise SystemExit(
                f"{entry_point.name} --help: status {answer.returncode}.\n{answer.stderr}"
            )
        module = entry_point.module
        if not any(name in answer.stdout for name in (entry_point.name, f"-m {module}")):
            raise SystemExit(f"{entry_point.name} --help shows no example:\n{answer.stdout}")


def check_library() -> None:
    """The library computes something."""
    code = (
        "import clsd_tf, clsd_tf.losses, tensorflow as tf\n"
        "for name in clsd_tf.__all__: getattr(clsd_tf, name)\n"
        "loss = clsd_tf.losses.click_loss(tf.constant([0.0]), tf.constant([1.0]))\n"
        "assert abs(float(loss[0]) - 0.6931) < 1e-3\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def main(checkout: str, python: str) -> None:
    """Runs all checks; the first that fails ends it with a sentence."""
    borrow_dependencies(python)
    check_origin(pathlib.Path(checkout))
    check_commands()
    check_library()
    print(f"The wheel of clsd_tf {importlib.metadata.version('clsd_tf')} works.")


if __name__ == "__main__":
    main(*sys.argv[1:])
