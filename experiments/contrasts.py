"""From judged fits to what is said of the arms: means, paired differences, shares won back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments.comparison import Judged
from experiments.evaluation import ScoredSplit
from experiments.statistics import (
    Interval,
    PairedScores,
    difference_over_users,
    holm,
    paired_interval,
    recovered_share,
)
from experiments.worlds import AS_IS

BASE, POOLED = "plain", "pooled"
AUC, GAUC = "auc", "gauc"
_NOWHERE = Interval(float("nan"), float("nan"), float("nan"), float("nan"))


@dataclasses.dataclass(frozen=True)
class Contrast:
    """An arm against plain training, in a metric.

    Attributes:
      over_seeds: paired by seed.
      over_users: of scores averaged over seeds; for AUC and GAUC.
      p_adjusted: Holm's, of a declared contrast: from the larger p of the two, since a claim needs
        both; nan for others.
    """

    over_seeds: Interval
    over_users: Interval = _NOWHERE
    p_adjusted: float = float("nan")

    @property
    def p(self) -> float:
        """The larger p of the two; nan if one is, since a claim needs both."""
        return float(np.maximum(self.over_seeds.p, self.over_users.p))

    @property
    def holds(self) -> bool:
        """Whether both intervals leave 0 out, on the same side."""
        both = (self.over_seeds, self.over_users)
        return all(i.low > 0.0 for i in both) or all(i.high < 0.0 for i in both)


@dataclasses.dataclass
class Summary:
    """An arm on a backbone, over its seeds.

    Attributes:
      world: name, or "pooled" for the mean over rolling origins.
      split: that was judged.
      backbone: its name.
      arm: its name.
      means: metric -> mean over seeds.
      contrasts: metric -> the arm against plain training; empty for plain itself.
      recovered: metric -> share won back of what the planted noise cost plain training.
      pairs: metric -> scores, beside those of plain training, that are judged over users.
      by_seed: metric -> its value for each seed.
    """

    world: str
    split: str
    backbone: str
    arm: str
    means: dict[str, float]
    contrasts: dict[str, Contrast]
    recovered: dict[str, float] = dataclasses.field(default_factory=dict)
    pairs: dict[str, list[PairedScores]] = dataclasses.field(default_factory=dict)
    by_seed: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def row(self) -> dict[str, object]:
        """What `results.json` says of it."""
        names = ("world", "split", "backbone", "arm", "means", "recovered")
        contrasts = {name: dataclasses.asdict(c) for name, c in self.contrasts.items()}
        return {**{name: getattr(self, name) for name in names}, "contrasts": contrasts}


def headline(metrics: Mapping[str, Mapping], judge_by: Sequence[str]) -> dict[str, float]:
    """The metrics that arms are compared in.

    Args:
      metrics: of a fit, see `experiments.evaluation.judge`.
      judge_by: satisfaction columns.
    """
    values = {name: metrics["click"][name] for name in (AUC, GAUC, "log_loss")}
    for column in judge_by:
        for name in (AUC, GAUC, "auc_among_clicks"):
            values[f"{column}_{name}"] = metrics["satisfaction"][column][name]
    return values


def summarise(
    fits: Mapping[str, Sequence[Judged]], judge_by: Sequence[str], draws: int
) -> list[Summary]:
    """Summaries of arms that were judged on the same rows.

    Args:
      fits: arm -> its seeds.
      judge_by: satisfaction columns.
      draws: bootstrap samples.
    """
    by_seed = {arm: _by_seed(seeds, judge_by) for arm, seeds in fits.items()}
    summaries = []
    for arm, seeds in fits.items():
        one = seeds[0]
        summary = Summary(one.world, one.split, one.backbone, arm, {}, {}, by_seed=by_seed[arm])
        if arm != BASE and BASE in fits:
            summary.pairs = _pairs(seeds, fits[BASE], judge_by)
        summaries.append(summary)
    return _contrasted(summaries, draws)


def averaged(fits: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores averaged over the seeds of an arm: [rows] each."""
    return fits[0].scored.labels, np.mean([fit.scored.scores for fit in fits], axis=0)


def pool(summaries: Iterable[Summary], draws: int) -> list[Summary]:
    """Means over rolling origins: differences by seed, and over users who are drawn once for all.

    Args:
      summaries: of all origins.
      draws: bootstrap samples.
    """

    def key(summary: Summary) -> tuple[str, str]:
        return summary.backbone, summary.split

    pooled = []
    for (backbone, split), group in itertools.groupby(sorted(summaries, key=key), key):
        arms: dict[str, list[Summary]] = {}
        for summary in group:
            arms.setdefault(summary.arm, []).append(summary)
        block = []
        for arm, days in arms.items():
            by_seed = {m: np.mean([d.by_seed[m] for d in days], axis=0) for m in days[0].by_seed}
            pairs = {m: [p for d in days for p in d.pairs[m]] for m in days[0].pairs}
            block.append(
                Summary(POOLED, split, backbone, arm, {}, {}, pairs=pairs, by_seed=by_seed)
            )
        pooled += _contrasted(block, draws)
    return pooled


def add_recovered(summaries: Sequence[Summary]) -> None:
    """Fills `recovered` in where noise was planted and plain training was judged without it."""
    plain = {(s.world, s.backbone, s.split): s.means for s in summaries if s.arm == BASE}
    for summary in summaries:
        clean = plain.get((AS_IS, summary.backbone, summary.split))
        noisy = plain.get((summary.world, summary.backbone, summary.split))
        if summary.world != AS_IS and clean is not None and noisy is not None:
            summary.recovered = {
                name: recovered_share(summary.means[name], noisy[name], clean[name])
                for name in (AUC, GAUC)
            }


def adjust_primary(summaries: Sequence[Summary], arm: str) -> None:
    """Adjusts the declared contrasts, `arm` against plain training in click AUC, for their number.

    They are one for each backbone; each world and split is a family of its own.
    """

    def key(summary: Summary) -> tuple[str, str]:
        return summary.world, summary.split

    declared = [s for s in summaries if s.arm == arm and AUC in s.contrasts]
    for _, group in itertools.groupby(sorted(declared, key=key), key):
        family = list(group)
        adjusted = holm([summary.contrasts[AUC].p for summary in family])
        for summary, p in zip(family, adjusted, strict=True):
            contrast = summary.contrasts[AUC]
            summary.contrasts[AUC] = dataclasses.replace(contrast, p_adjusted=float(p))


def _contrasted(summaries: list[Summary], draws: int) -> list[Summary]:
    """Fills in means and contrasts of arms that were judged on the same rows."""
    base = next((s.by_seed for s in summaries if s.arm == BASE), None)
    for summary in summaries:
        summary.means = {name: float(np.mean(v)) for name, v in summary.by_seed.items()}
        if base is None or summary.arm == BASE:
            continue
        for name, values in summary.by_seed.items():
            pairs = summary.pairs.get(name)
            summary.contrasts[name] = Contrast(
                paired_interval(values - base[name]),
                difference_over_users(pairs, draws=draws) if pairs else _NOWHERE,
            )
    return summaries


def _by_seed(fits: Sequence[Judged], judge_by: Sequence[str]) -> dict[str, np.ndarray]:
    rows = [headline(fit.metrics, judge_by) for fit in fits]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _pairs(
    fits: Sequence[Judged], base: Sequence[Judged], judge_by: Sequence[str]
) -> dict[str, list[PairedScores]]:
    """Scores averaged over seeds, of the rows and labels of each AUC."""
    rows = fits[0].scored
    scores, base_scores = averaged(fits)[1], averaged(base)[1]
    pairs = {}
    for name, (labels, chosen, within_users) in targets(rows, judge_by).items():
        pairs[name] = [
            PairedScores(
                labels[chosen],
                scores[chosen],
                base_scores[chosen],
                rows.users[chosen],
                within_users,
            )
        ]
    return pairs


def targets(
    rows: ScoredSplit, judge_by: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Labels, the rows that count, and whether they do within users, of each metric of ranking."""
    everywhere = np.ones(len(rows.labels), bool)
    found = {AUC: (rows.labels, everywhere, False), GAUC: (rows.labels, everywhere, True)}
    for column in judge_by:
        signal = rows.satisfaction[column]
        known = ~np.isnan(signal)
        found[f"{column}_{AUC}"] = (signal, known, False)
        found[f"{column}_{GAUC}"] = (signal, known, True)
        found[f"{column}_auc_among_clicks"] = (signal, known & (rows.labels == 1), False)
    return found
