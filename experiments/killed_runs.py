"""What killed commands leave: whether it is whole, left over, and what undisturbed ones leave."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from data_pipeline.integrity import check_sizes
from data_pipeline.manifest import Manifest, ShardError
from data_pipeline.scores import ScoreManifest
from data_pipeline.shards import checksum


def begin_again(place: pathlib.Path, name: str) -> None:
    """Removes what a command of the disturbed run has made, so that it can be killed once more."""
    base = place / "disturbed"
    outputs = {
        "prepare": [base / "prepared"],
        "train": [base / "run"],
        # The scores that teach are of the training.
        "score": [p for p in base.glob("run/scores/*") if p.name != "student"],
        "export": [base / "run" / "export"],
    }
    for path in outputs[name]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def whole(place: pathlib.Path) -> list[str]:
    """What of the disturbed run can be seen, and is not whole."""
    base = place / "disturbed"
    problems = []
    for path in base.rglob("*.json"):
        if any(part.startswith(".") for part in path.relative_to(base).parts):
            continue
        with contextlib.suppress(FileNotFoundError):  # replaced while we look
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                problems.append(f"half a file: {path.relative_to(base)}")
    prepared = base / "prepared"
    if prepared.exists():
        try:
            check_sizes(prepared, Manifest.load(prepared).shards)
        except ShardError as error:
            problems.append(f"half a data set: {error}")
    for scores in base.glob("run/**/scores.json"):
        for file in ScoreManifest.load(scores.parent).files:
            if checksum(scores.parent / file.file) != file.sha256:
                problems.append(f"half a file of scores: {file.file}")
    for version in base.glob("run/export/*"):
        if version.name.isdecimal() and not (version / "saved_model.pb").is_file():
            problems.append(f"half an export: {version.name}")
    for phase in base.glob("run/*/phase.json"):
        if not (phase.parent / "weights.index").is_file():
            problems.append(f"a phase without weights: {phase.parent.name}")
    return problems


def left_overs(place: pathlib.Path) -> list[str]:
    """Locks and unfinished files of the disturbed run, when its last command has ended."""
    base = place / "disturbed"
    names = [p for p in base.rglob(".*") if p.name.endswith((".tmp", ".lock", ".replaced"))]
    names += [p for p in base.rglob("*.tmp") if not p.name.startswith(".")]
    return [f"left over: {path.relative_to(base)}" for path in names]


def differences(place: pathlib.Path, name: str) -> list[str]:
    """How the output of a command differs between the two runs."""
    pairs = (place / "undisturbed", place / "disturbed")
    return {
        "prepare": _of_files("prepared/**/*", skip=("results.json",)),
        "train": _of_run,
        "score": _of_files("run/scores/**/*", skip=("results.json",)),
        "export": _of_exports,
    }[name](*pairs)


def _of_files(pattern: str, skip: tuple[str, ...]) -> Callable[..., list[str]]:
    def compare(mine: pathlib.Path, other: pathlib.Path) -> list[str]:
        files = [
            {str(p.relative_to(base)): p for p in base.glob(pattern) if p.is_file()}
            for base in (mine, other)
        ]
        problems = [f"only one run has {name}" for name in sorted(files[0].keys() ^ files[1])]
        for name in sorted(files[0].keys() & files[1]):
            if pathlib.Path(name).name in skip:
                continue
            if _content(files[0][name]) != _content(files[1][name]):
                problems.append(f"{name} differs")
        return problems

    return compare


def _content(path: pathlib.Path) -> object:
    """Bytes of a file; of scores without the checksum of the weights, whose files hold names."""
    if path.name != "scores.json":
        return path.read_bytes()
    return {k: v for k, v in json.loads(path.read_text()).items() if k != "model"}


def _of_run(mine: pathlib.Path, other: pathlib.Path) -> list[str]:
    problems = []
    told = [json.loads((b / "run" / "results.json").read_text())["metrics"] for b in (mine, other)]
    if _learned(told[0]) != _learned(told[1]):
        problems.append("metrics differ")
    for part in ("teacher", "student"):
        prefixes = [base / "run" / part / "weights" for base in (mine, other)]
        problems += [f"{part}: {problem}" for problem in _of_variables(*prefixes)]
    return problems


def _learned(told: object) -> object:
    """Metrics without how long they took, and without names that Keras counts up in a process."""
    if isinstance(told, dict):
        return {k: _learned(v) for k, v in told.items() if k not in ("seconds", "name")}
    return [_learned(v) for v in told] if isinstance(told, list) else told


def _of_exports(mine: pathlib.Path, other: pathlib.Path) -> list[str]:
    versions = [base / "run" / "export" for base in (mine, other)]
    names = [sorted(p.name for p in base.iterdir() if p.name.isdecimal()) for base in versions]
    if names[0] != ["1"] or not names[1]:
        return [f"versions are {names[1]}"]
    # A kill may come after the version was in place, and before the command had said so.
    last = [base / names_of[-1] for base, names_of in zip(versions, names, strict=True)]
    files = [sorted(str(p.relative_to(base)) for p in base.rglob("*")) for base in last]
    problems = [] if files[0] == files[1] else ["exports have other files"]
    return problems + _of_variables(*(base / "variables" / "variables" for base in last))


def _of_variables(mine: pathlib.Path, other: pathlib.Path) -> list[str]:
    import tensorflow as tf

    readers = [tf.train.load_checkpoint(str(prefix)) for prefix in (mine, other)]
    shapes = [reader.get_variable_to_shape_map() for reader in readers]
    if shapes[0] != shapes[1]:
        return ["other variables"]
    return [
        f"variable {name} differs"
        for name in sorted(shapes[0])
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
        and not np.array_equal(*(reader.get_tensor(name) for reader in readers))
    ]
