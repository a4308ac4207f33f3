"""The cache of a comparison: each model is trained once, whoever asks for it and whenever.

    fits/<key>/   the directory of a run, with what a comparison needs of it: scored-<split>.parquet

The key is a hash of all that decides what is learned. A killed comparison therefore goes on where
it stopped, and two arms of a seed share their teacher. No TensorFlow is imported here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from experiments.arms import get_arm
from experiments.runs import TEACHER_SEED, Run, TrainConfig

# Where data set and teacher lie does not change what is learned of them.
_PLACES = ("data_dir", "teacher_dir", "scores_dir")
# Teachers that are plain runs, which all arms of a seed share; others belong to the student's run,
# and so do those that are trained on a part of the batches.
SHARED_TEACHERS = ("frozen", "scores")


def fit_key(config: TrainConfig) -> str:
    """Identifies what `config` learns: 16 hexadecimal digits."""
    decisive = {k: v for k, v in dataclasses.asdict(config).items() if k not in _PLACES}
    if config.input_shares == 1:  # as in fits that were cached before there were shares
        del decisive["input_shares"]
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def teacher_config(config: TrainConfig) -> TrainConfig | None:
    """The plain run that is the teacher of `config`, or None if it has none of that kind.

    A run that trains its own teacher comes to the same model: same backbone, rows, learning rates
    and the seed of a teacher.
    """
    is_shared = config.teacher in SHARED_TEACHERS and config.teacher_fraction == 1.0
    if not get_arm(config.method).needs_teacher or not is_shared:
        return None
    return dataclasses.replace(_plain(config), seed=config.seed + TEACHER_SEED)


def trained_config(config: TrainConfig) -> TrainConfig:
    """The run that is trained for `config`: the plain one for an arm that corrects its scores."""
    return config if get_arm(config.method).correction is None else _plain(config)


def _plain(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        config,
        method="plain",
        options={},
        confidence_options={},
        method_options={},
        teacher="frozen",
        teacher_fraction=1.0,
        num_folds=3,
        generations=1,
        calibrate=False,
    )


def describe_fit(config: TrainConfig, seconds: float) -> str:
    """A line about a fit that was trained."""
    what = [config.method, config.backbone, config.data_dir, f"seed {config.seed}"]
    what += [f"{name} {value}" for name, value in config.options.items()]
    return f"{', '.join(what)}: {seconds:.1f} s"


@dataclasses.dataclass(frozen=True)
class FitCache:
    """Directory of fits."""

    directory: pathlib.Path

    def run(self, config: TrainConfig) -> Run:
        """The run of `config`, trained or not."""
        return Run(self.directory / fit_key(trained_config(config)))

    def scored_path(self, config: TrainConfig, split: str) -> pathlib.Path:
        """Where the scores of a split are; its presence says that the fit is done."""
        directory = self.run(config).directory
        if config.method == trained_config(config).method:
            return directory / f"scored-{split}.parquet"
        return directory / f"scored-{split}-{config.method}.parquet"

    def missing(self, configs: list[TrainConfig]) -> list[TrainConfig]:
        """Those of `configs`, and of their teachers, that are still to be trained, each once."""
        wanted: dict[str, TrainConfig] = {}
        for config in configs:
            for needed in (teacher_config(config), trained_config(config)):
                if needed is not None and not self.run(needed).is_finished:
                    wanted[fit_key(needed)] = needed
        return list(wanted.values())

    def seconds_per_fit(self) -> float | None:
        """Median duration of the fits so far, or None without any."""
        times = [
            json.loads(path.read_text(encoding="utf-8"))["metrics"]["seconds"]
            for path in self.directory.glob("*/results.json")
        ]
        return float(np.median(times)) if times else None
