r"""Says which versions of an exported model are served, and writes what a server needs for it.

python -m experiments.deploy --base_dir=served/click_model --output_dir=deployment --stable=1
python -m experiments.deploy --base_dir=served/click_model --output_dir=deployment --canary=2
python -m experiments.deploy --base_dir=served/click_model --output_dir=deployment --promote
python -m experiments.deploy --base_dir=served/click_model --output_dir=deployment --rollback
python -m experiments.deploy --base_dir=served/click_model --output_dir=deployment --keep=3

Writes model.config, batching.config, monitoring.config, docker_run.sh, compose.yaml and
kubernetes.yaml for TensorFlow Serving. A server that runs with them reads a changed model.config by
itself. Clients choose a version by the labels `stable` and `canary`.
"""

from __future__ import annotations

import pathlib

from absl import flags

from clsd_tf.deployment import Deployment
from clsd_tf.serving_files import IMAGE, serving_files
from clsd_tf.versions import list_versions, remove_old_versions
from data_pipeline.cli import run_main, write_results
from data_pipeline.directories import whole_file

_BASE_DIR = flags.DEFINE_string("base_dir", None, "Base path of the model: holds its versions.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the files go.")
_STABLE = flags.DEFINE_integer(
    "stable", None, "Version that clients get; the first time the latest by default.", 1
)
_CANARY = flags.DEFINE_integer("canary", None, "Version that is tried; 0 for none any more.", 0)
_PROMOTE = flags.DEFINE_bool("promote", False, "Make the canary the stable version.")
_ROLLBACK = flags.DEFINE_bool("rollback", False, "Go back to the version that was stable before.")
_KEEP = flags.DEFINE_integer(
    "keep", None, "Remove all but so many of the latest versions; those with a label stay.", 1
)
_IMAGE = flags.DEFINE_string("image", IMAGE, "Container image of TensorFlow Serving.")
flags.mark_flags_as_required(["base_dir", "output_dir"])


def main(argv: list[str]) -> None:
    """Deploys by the flags."""
    del argv
    base, output = pathlib.Path(_BASE_DIR.value), pathlib.Path(_OUTPUT_DIR.value)
    deployment = _decide(base, Deployment.load(output))
    there = list_versions(base)
    if missing := [version for version in deployment.versions if version not in there]:
        raise ValueError(
            f"{base} lacks versions that are to be served. Received: {missing}. Expected: some of "
            f"{there}. Export them, or name others."
        )
    output.mkdir(parents=True, exist_ok=True)
    files = serving_files(deployment, _IMAGE.value)
    for name, text in files.items():
        _write(output / name, text)
    (output / "docker_run.sh").chmod(0o755)
    deployment.save(output)
    removed = []
    if _KEEP.value is not None:
        protected = {*deployment.versions, *deployment.earlier[-1:]}  # to roll back to
        removed = remove_old_versions(base, _KEEP.value, protected)
    for label, version in deployment.labels.items():
        print(f"{label}: version {version}")
    write_results(
        output / "results.json",
        config={"base_dir": str(base.absolute()), "image": _IMAGE.value},
        metrics={
            "labels": deployment.labels,
            "earlier": deployment.earlier,
            "files": sorted(files),
            "removed": removed,
        },
    )


def _decide(base: pathlib.Path, current: Deployment | None) -> Deployment:
    """The deployment that the flags ask for."""
    asked = [
        name
        for name, given in (
            ("--promote", _PROMOTE.value),
            ("--rollback", _ROLLBACK.value),
            ("--stable", _STABLE.value is not None),
        )
        if given
    ]
    if len(asked) > 1:
        raise ValueError(
            f"Flags decide differently what is stable. Received: {', '.join(asked)}. Expected: one "
            "of them; leave the others out."
        )
    if current is None:
        if _PROMOTE.value or _ROLLBACK.value:
            raise ValueError(
                f"There is no deployment to change. Received: --output_dir={_OUTPUT_DIR.value}, "
                "without one. Expected: that of an earlier deployment; begin with --stable."
            )
        stable = _STABLE.value or max(list_versions(base), default=None)
        if stable is None:
            raise ValueError(
                f"There are no versions to serve. Received: --base_dir={base}. Expected: a folder "
                "with numbered exports; export one with `clsd-export`."
            )
        current = Deployment(base.absolute().name, stable)
    elif _PROMOTE.value:
        current = current.promote()
    elif _ROLLBACK.value:
        current = current.roll_back()
    elif _STABLE.value is not None:
        current = current.with_stable(_STABLE.value)
    if _CANARY.value is not None:
        current = current.with_canary(_CANARY.value or None)
    return current


def _write(path: pathlib.Path, text: str) -> None:
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def cli() -> None:
    """Entry point of `clsd-deploy`."""
    run_main(main)


if __name__ == "__main__":
    cli()
