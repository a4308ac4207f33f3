"""What a comparison consists of: its fits, before any is trained. No TensorFlow is imported."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from data_pipeline.manifest import Manifest, data_checksum
from experiments import tuning
from experiments.arms import LEARNING_RATES
from experiments.fits import SHARED_TEACHERS, FitCache
from experiments.runs import TrainConfig
from experiments.variants import parse_variant


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all arms have in common.

    Attributes:
      arms: names.
      backbones: names.
      num_seeds: fits of each arm, with seeds from 0.
      num_trials: options that are tried for each arm; 0: the arm as it is.
      tune_seeds: fits of each trial, with seeds from 0.
      epochs: of each fit.
      batch_size: of each fit.
    """

    arms: tuple[str, ...]
    backbones: tuple[str, ...]
    num_seeds: int = 5
    num_trials: int = 0
    tune_seeds: int = 2
    epochs: int = 1
    batch_size: int = 512

    def config(self, arm: str, backbone: str, seed: int, data_dir: pathlib.Path) -> TrainConfig:
        """A fit of an arm before its options are tuned."""
        exists = (data_dir / "manifest.json").exists()
        noise = Manifest.load(data_dir).noise if exists else None
        variant = parse_variant(arm)
        told: dict[str, object] = {}
        if variant.entry.knows_rates and noise is not None:
            told = {"rates": list(noise["rates"].values())}
        as_it_is = TrainConfig(
            data_dir=str(data_dir),
            data=data_checksum(data_dir) if exists else "not prepared yet",
            backbone=backbone,
            method=variant.arm,
            options=variant.entry.with_options({}),
            confidence_options=told,
            seed=seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
        )
        return variant.apply(as_it_is)


def num_fits(
    settings: Settings, places: Sequence[pathlib.Path], cache: FitCache
) -> tuple[int, bool]:
    """Fits that are still to be trained, and whether that is exact; with a search, at most so many.

    Args:
      settings: of the comparison.
      places: data sets of its worlds, prepared or not.
      cache: of fits.
    """
    if not settings.num_trials:
        configs = [
            settings.config(arm, backbone, seed, place)
            for place in places
            for backbone in settings.backbones
            for arm in settings.arms
            for seed in range(settings.num_seeds)
        ]
        return len(cache.missing(configs)), True
    trained = teachers = 0
    for arm in settings.arms:
        variant = parse_variant(arm)
        space = tuning.search_space(variant)
        trials = min(settings.num_trials, math.prod(map(len, space.values())))
        fits = trials * settings.tune_seeds + settings.num_seeds
        trained += fits
        source = variant.options.get("teacher", SHARED_TEACHERS[0])
        is_shared = source in SHARED_TEACHERS and variant.options.get("teacher_fraction", 1) == 1
        teachers += fits * (variant.entry.needs_teacher and is_shared)
    # Teachers are plain models, of which there are no more than learning rates to choose from.
    cells = math.prod(map(len, LEARNING_RATES.values()))
    teachers = min(teachers, cells * max(settings.num_seeds, settings.tune_seeds))
    return (trained + teachers) * len(places) * len(settings.backbones), False
