"""Scores a split with a trained model and judges the scores, exactly and per group."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from clsd_tf import Encoder, metrics
from clsd_tf.features import GROUP, ROW, USER
from data_pipeline.manifest import Manifest
from data_pipeline.progress import progress
from data_pipeline.reader import make_dataset, read_errors


@dataclasses.dataclass(frozen=True)
class ScoredSplit:
    """A split as a model sees it; [rows] each.

    Attributes:
      scores: predicted probabilities.
      labels: clicks, in {0, 1}.
      users: fingerprint of the user.
      groups: index of the user group.
      rows: `_row`, which identifies an impression of the prepared log.
      satisfaction: post-click signals by name, NaN where missing.
    """

    scores: np.ndarray
    labels: np.ndarray
    users: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    satisfaction: dict[str, np.ndarray]


class Predictor(Protocol):
    """What scores batches: a model, or an export of one."""

    def predict_on_batch(self, features: Mapping[str, tf.Tensor]) -> np.ndarray:
        """Probabilities [batch] of model features."""


def score_split(
    model: Predictor,
    encoder: Encoder,
    data_dir: str | pathlib.Path,
    split: str,
    batch_size: int = 4096,
) -> ScoredSplit:
    """Scores a split in the order of its shards.

    Raises:
      ValueError: the split has no rows.
    """
    signals = [column.name for column in encoder.spec.with_role("satisfaction")]
    dataset = make_dataset(
        data_dir, split, batch_size, shuffle=False, extra_columns=[*signals, ROW]
    )
    inputs = [feature.name for feature in encoder.model_features]
    kept: dict[str, list[np.ndarray]] = {n: [] for n in ("_score", "_click", USER, GROUP, ROW)}
    kept |= {name: [] for name in signals}
    rows = Manifest.load(data_dir).rows.get(split, 0)
    with read_errors(data_dir), progress(f"Scoring {rows:,} rows of {split}", rows) as advance:
        for features, label, _ in dataset:
            # A model that is judged by a signal does not get to see it.
            scores = model.predict_on_batch({name: features[name] for name in inputs})
            batch = {**features, "_score": scores, "_click": label}
            for name, parts in kept.items():
                parts.append(np.asarray(batch[name]))
            advance(len(label))
    if not kept["_score"]:
        raise ValueError(
            f"Split '{split}' has no rows to evaluate. Received: 0 rows in {data_dir}. Expected: a "
            "split with rows; choose another --split, or other days in the spec."
        )
    columns = {name: np.concatenate(parts) for name, parts in kept.items()}
    return ScoredSplit(
        scores=columns["_score"].astype(np.float64),
        labels=columns["_click"],
        users=columns[USER],
        groups=columns[GROUP],
        rows=columns[ROW],
        satisfaction={name: columns[name] for name in signals},
    )


def judge(scored: ScoredSplit, group_names: list[str]) -> dict[str, dict]:
    """Metrics of a scored split, see `clsd_tf.metrics`.

    Returns:
      `click`: of the clicks; `groups`: the same for each user group; `satisfaction`: for each
      post-click signal of zeros and ones, AUC over impressions and among clicks. Other signals
      have no AUC and are left out.
    """
    clicked = scored.labels == 1
    judged: dict[str, dict] = {
        "click": _click_metrics(scored, np.ones_like(clicked)),
        "groups": {
            name: _click_metrics(scored, scored.groups == group)
            for group, name in enumerate(group_names)
        },
        "satisfaction": {},
    }
    for name, signal in scored.satisfaction.items():
        known = ~np.isnan(signal)
        if not np.isin(signal[known], (0.0, 1.0)).all():
            continue
        among = known & clicked
        judged["satisfaction"][name] = {
            "rate": _mean(signal[known]),
            "auc": metrics.auc(signal[known], scored.scores[known]),
            "gauc": metrics.gauc(signal[known], scored.scores[known], scored.users[known]).value,
            "rate_among_clicks": _mean(signal[among]),
            "auc_among_clicks": metrics.auc(signal[among], scored.scores[among]),
        }
    return judged


def judge_confidence(
    confidence: np.ndarray, groups: np.ndarray, is_good: np.ndarray
) -> dict[str, float]:
    """How well confidence tells good clicks from others.

    Args:
      confidence: of clicks, [clicks].
      groups: of the users, int [clicks].
      is_good: bool [clicks]: made by a user and not planted, or followed by satisfaction.

    Returns:
      `auc`: over all clicks; `auc_within_groups`: average of each group's own AUC by its clicks;
      `auc_group_only`: of a confidence that knows nothing but each group's true share of good
      clicks; `good_share` of the clicks.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    share = np.bincount(numbers, is_good) / np.bincount(numbers)
    return {
        "auc": metrics.auc(is_good, confidence),
        "auc_within_groups": metrics.gauc(is_good, confidence, groups).value,
        "auc_group_only": metrics.auc(is_good, share[numbers]),
        "good_share": _mean(is_good),
    }


def _click_metrics(scored: ScoredSplit, chosen: np.ndarray) -> dict[str, float]:
    """Metrics of the clicks in the chosen rows, bool [rows]; nan where they are not defined."""
    labels, scores, users = scored.labels[chosen], scored.scores[chosen], scored.users[chosen]
    gauc = metrics.gauc(labels, scores, users)
    return {
        "rows": int(chosen.sum()),
        "click_rate": _mean(labels),
        "auc": metrics.auc(labels, scores),
        "gauc": gauc.value,
        "gauc_users": gauc.num_users,
        "log_loss": metrics.log_loss(labels, scores),
        "normalized_entropy": metrics.normalized_entropy(labels, scores),
        "predicted_over_observed": metrics.predicted_over_observed(labels, scores),
        "calibration_error": metrics.expected_calibration_error(labels, scores),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
