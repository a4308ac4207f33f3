"""A comparison at work: options are tuned, fits trained and judged."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from clsd_tf import Encoder, metrics
from clsd_tf.spec import read_spec
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset
from experiments import planted_noise, tuning
from experiments.arms import LEARNING_RATES
from experiments.evaluation import ScoredSplit, judge, judge_confidence
from experiments.fits import fit_key
from experiments.fitting import Fitter
from experiments.plan import Settings
from experiments.runs import TrainConfig
from experiments.studies import StudyStore
from experiments.variants import parse_variant, with_options
from experiments.worlds import AS_IS


@dataclasses.dataclass(frozen=True)
class Judged:
    """A fit of an arm on a split.

    Attributes:
      arm: its name.
      backbone: its name.
      world: its name.
      split: that was judged.
      config: of the fit.
      scored: with the clicks that users made, whatever was planted.
      metrics: see `experiments.evaluation.judge`; with `confidence`, if the arm has one.
    """

    arm: str
    backbone: str
    world: str
    split: str
    config: TrainConfig
    scored: ScoredSplit
    metrics: dict[str, dict]

    def row(self) -> dict[str, object]:
        """What `results.json` says of it."""
        place = {n: getattr(self, n) for n in ("arm", "backbone", "world", "split")}
        config = self.config
        options = {**{n: getattr(config, n) for n in LEARNING_RATES}, **config.options}
        fit = {"seed": config.seed, "fit": fit_key(config), "options": options}
        return {**place, **fit, **self.metrics}


class Comparison:
    """Tunes, trains and judges the arms.

    Args:
      settings: what all arms have in common.
      fitter: of the fits.
      studies: where searches are stored.
    """

    def __init__(self, settings: Settings, fitter: Fitter, studies: StudyStore):
        """See the class."""
        self._settings, self._fitter, self._studies = settings, fitter, studies

    def tune(
        self, arm: str, backbone: str, data_dir: pathlib.Path
    ) -> tuple[tuning.Options, list[tuning.Trial]]:
        """The options of an arm with the best AUC of logged validation clicks, and all trials."""
        settings = self._settings
        if not settings.num_trials:
            return {}, []
        configs = [
            settings.config(arm, backbone, seed, data_dir) for seed in range(settings.tune_seeds)
        ]

        def evaluate(options: tuning.Options) -> float:
            fits = [with_options(config, options) for config in configs]
            scored = [self._fitter.scored(fit, "valid") for fit in fits]
            return float(np.mean([metrics.auc(s.labels, s.scores) for s in scored]))

        variant = parse_variant(arm)
        space = tuning.search_space(variant)
        stored = self._studies.open(f"{arm} {backbone}", configs, space, settings.num_trials)
        trials = tuning.search(
            space, tuning.first_options(variant), settings.num_trials, evaluate, stored
        )
        return tuning.best(trials).options, trials

    def judge(
        self, backbone: str, world: str, data_dir: pathlib.Path, splits: Sequence[str]
    ) -> tuple[dict[str, dict[str, list[Judged]]], list[dict[str, object]]]:
        """Tunes all arms on a backbone, trains their seeds, and judges each on each split.

        Returns:
          Split -> arm -> its seeds, and the trials as `results.json` has them.
        """
        fits: dict[str, dict[str, list[Judged]]] = {split: {} for split in splits}
        trials = []
        group_names = Encoder.load(data_dir).group_names()
        planted = {s: planted_noise.planted_rows(data_dir, s) for s in (*splits, "train")}
        for arm in self._settings.arms:
            options, tried = self.tune(arm, backbone, data_dir)
            where = {"arm": arm, "backbone": backbone, "world": world}
            trials += [{**where, **dataclasses.asdict(trial)} for trial in tried]
            for seed in range(self._settings.num_seeds):
                config = self._settings.config(arm, backbone, seed, data_dir)
                config = with_options(config, options)
                confidence = self._confidence(config, planted["train"])
                for split in splits:
                    scored = self._fitter.scored(config, split)
                    scored = planted_noise.without_noise(scored, planted[split])
                    judged = {**judge(scored, group_names), **confidence}
                    fit = Judged(arm, backbone, world, split, config, scored, judged)
                    fits[split].setdefault(arm, []).append(fit)
        return fits, trials

    def _confidence(self, config: TrainConfig, planted: np.ndarray) -> dict[str, dict]:
        """`confidence` of training clicks, against satisfaction and planted noise."""
        if "confidence" not in config.options:
            return {}
        told = self._fitter.confidences(config)
        judged: dict = {"table": told.table, "satisfaction": {}}
        for name, signal in told.satisfaction.items():
            known = ~np.isnan(signal)
            if np.isin(signal[known], (0.0, 1.0)).all():
                columns = (told.confidence, told.groups, signal == 1.0)
                judged["satisfaction"][name] = judge_confidence(*(c[known] for c in columns))
        if len(planted):
            was_made = ~np.isin(told.rows, planted)
            judged["noise"] = judge_confidence(told.confidence, told.groups, was_made)
        return {"confidence": judged}


def satisfaction_to_judge_by(data_dir: pathlib.Path, asked: Sequence[str]) -> list[str]:
    """The satisfaction columns to compare in: those asked for, or the first of zeros and ones.

    Args:
      data_dir: prepared data set; what its validation rows hold decides.
      asked: names of columns.

    Raises:
      ValueError: a column is none of satisfaction, or has other values than 0 and 1.
    """
    spec = read_spec(data_dir / "spec.toml")
    signals = [column.name for column in spec.with_role("satisfaction")]
    dataset = make_dataset(data_dir, "valid", 4096, columns=[], extra_columns=signals)
    other = set()
    for features, _, _ in dataset:
        for name in signals:
            signal = features[name].numpy()
            if not np.isin(signal[~np.isnan(signal)], (0.0, 1.0)).all():
                other.add(name)
    binary = [name for name in signals if name not in other]
    if wrong := [name for name in asked if name not in binary]:
        raise ValueError(
            "`--judge` names satisfaction columns of zeros and ones. Received: "
            f"{', '.join(wrong)}. Expected some of: {', '.join(binary) or 'there are none'}."
        )
    return list(asked) or binary[:1]


def noise_rates(
    rows: Sequence[Mapping], places: Mapping[str, pathlib.Path]
) -> list[dict[str, object]]:
    """Estimated against planted rates, of arms whose confidence estimates them.

    Args:
      rows: of judged fits, see `Judged.row`.
      places: world -> its data set.
    """

    def table(row: Mapping) -> list[dict[str, str | float]]:
        return row.get("confidence", {}).get("table", [])

    names = ("arm", "backbone", "seed")
    as_is = {tuple(row[n] for n in names): table(row) for row in rows if row["world"] == AS_IS}
    found = {}
    for row in rows:
        key = tuple(row[n] for n in names)
        noise = Manifest.load(places[row["world"]]).noise
        if noise and key in as_is:
            recovered = planted_noise.rate_recovery(table(row), as_is[key], noise["rates"])
            place = {"world": row["world"], **dict(zip(names, key, strict=True))}
            found[row["world"], *key] = [{**place, **rate} for rate in recovered]
    return [rate for rates in found.values() for rate in rates]
