"""Scores the runs of a report on a split, and compares them with the plain one."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from clsd_tf import Encoder
from clsd_tf.features import ROW
from data_pipeline.progress import progress
from data_pipeline.reader import make_dataset
from experiments.contrasts import targets
from experiments.corrections import as_served
from experiments.evaluation import ScoredSplit, judge, score_split
from experiments.models import load_model
from experiments.reporting.runs import RunFacts
from experiments.statistics import Interval, PairedScores, difference_over_users


@dataclasses.dataclass(frozen=True)
class Judged:
    """A run on a split.

    Attributes:
      facts: of the run.
      scored: the split.
      metrics: see `experiments.evaluation.judge`.
      contrasts: metric -> difference to the base, over users; empty for the base itself.
      of_groups: group -> difference of the click AUC to the base, over users.
    """

    facts: RunFacts
    scored: ScoredSplit
    metrics: dict[str, dict]
    contrasts: dict[str, Interval] = dataclasses.field(default_factory=dict)
    of_groups: dict[str, Interval] = dataclasses.field(default_factory=dict)


def judge_runs(
    runs: Sequence[RunFacts], base: RunFacts | None, data_dir: str, split: str, draws: int
) -> list[Judged]:
    """Scores and judges the runs.

    Args:
      runs: of one data set.
      base: the one that others are compared with; None compares none.
      data_dir: the prepared data set.
      split: of it.
      draws: bootstrap samples of users.
    """
    judged = []
    for facts in runs:
        encoder = Encoder.load(facts.run.encoding)
        model = load_model(facts.run, facts.config)
        scored = as_served(score_split(model, encoder, data_dir, split), model, facts.config)
        judged.append(Judged(facts, scored, judge(scored, encoder.group_names())))
    compared = next((each for each in judged if each.facts is base), None)
    return judged if compared is None else _compared(judged, compared, draws)


def _compared(judged: list[Judged], base: Judged, draws: int) -> list[Judged]:
    signals = list(base.metrics["satisfaction"])
    names = list(base.metrics["groups"])
    wanted = [
        *((name, None, *target) for name, target in targets(base.scored, signals).items()),
        *(
            ("auc", name, base.scored.labels, base.scored.groups == group, False)
            for group, name in enumerate(names)
        ),
    ]
    others = [each for each in judged if each is not base]
    with progress("Intervals over users", len(wanted) * len(others), "intervals") as advance:
        for each in others:
            for metric, group, labels, chosen, within_users in wanted:
                if len(np.unique(labels[chosen])) == 2:
                    pair = PairedScores(
                        labels[chosen],
                        each.scored.scores[chosen],
                        base.scored.scores[chosen],
                        base.scored.users[chosen],
                        within_users,
                    )
                    interval = difference_over_users([pair], draws=draws)
                    if group is None:
                        each.contrasts[metric] = interval
                    else:
                        each.of_groups[group] = interval
                advance(1)
    return judged


def click_satisfaction(data_dir: str | pathlib.Path, encoder: Encoder, split: str) -> pa.Table:
    """`_row` and each post-click signal of the clicks of a split; NaN where missing."""
    signals = [column.name for column in encoder.spec.with_role("satisfaction")]
    dataset = make_dataset(
        data_dir, split, 4096, shuffle=False, columns=[], extra_columns=[*signals, ROW]
    )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (ROW, *signals)}
    for features, label, _ in dataset:
        clicked = label.numpy() == 1
        for name, values in parts.items():
            values.append(features[name].numpy()[clicked])
    return pa.table({name: np.concatenate(values) for name, values in parts.items()})
