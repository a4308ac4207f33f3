r"""Makes the virtual environments of the peers that the benchmark measures beside this project.

python -m experiments.benchmark_environments --directory=environments
python -m experiments.benchmark_environments --directory=environments --only=torch,grain
python -m experiments.benchmark_environments --directory=environments --only=deepctr

Each comes from a file of pinned requirements in `experiments/benchmarks/requirements`. An
environment that stands is left alone, unless its file has changed. Then: `clsd-benchmark`.
"""

from __future__ import annotations

import pathlib

from absl import flags

from data_pipeline.cli import run_main, write_results
from data_pipeline.progress import steps
from experiments.benchmarks.environments import environment_names, make_environment

_NAMES = environment_names()
_DIRECTORY = flags.DEFINE_string("directory", None, "Of the environments; made if need be.")
_ONLY = flags.DEFINE_list("only", _NAMES, f"Environments, by default all: {', '.join(_NAMES)}.")
flags.mark_flag_as_required("directory")


@flags.validator("only", message=f"must be names of environments: {', '.join(_NAMES)}.")
def _are_names(names: list[str]) -> bool:
    return bool(names) and set(names) <= set(_NAMES)


def main(argv: list[str]) -> None:
    """Makes environments by the flags."""
    del argv
    directory = pathlib.Path(_DIRECTORY.value).absolute()
    failed: dict[str, str] = {}
    with steps() as begin:
        for name in _ONLY.value:
            begin(f"Installing {name}")
            try:
                make_environment(directory, name)
            except RuntimeError as error:  # the others are of use without it
                failed[name] = str(error)
    if failed:
        told = " ".join(f"{name}: {error}" for name, error in failed.items())
        raise RuntimeError(
            f"Some environments could not be made. Received: {told} Expected: a package index that "
            "pip reaches; the others are there, give the command again."
        )
    metrics = {"made": sorted(_ONLY.value)}
    write_results(directory / "results.json", config={"only": _ONLY.value}, metrics=metrics)


def cli() -> None:
    """Entry point of `clsd-benchmark-environments`."""
    run_main(main)


if __name__ == "__main__":
    cli()
