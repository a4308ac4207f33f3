"""The objective of a run, and the one door by which a satisfaction column reaches a train step.

A label cannot be in two roles: what models are judged by never trains them. `own_columns` gives a
satisfaction column to the arm that says it reads one, and `without_satisfaction` refuses rows that
hold any other, whatever reader they come from.
"""

from __future__ import annotations

from collections.abc import Collection

import tensorflow as tf

from clsd_tf import ClickConfidenceModel, Objective, get_objective
from clsd_tf.encoding import Encoder
from experiments.arms import get_arm
from experiments.runs import TrainConfig


def build_objective(config: TrainConfig, encoder: Encoder) -> Objective | None:
    """What the student of a run minimises, None for the model's own loss.

    Raises:
      ValueError: an option is out of range, or the arm reads satisfaction and the log has none.
    """
    arm = get_arm(config.method)
    if arm.objective is None:
        return None
    options = arm.with_method_options(config.method_options)
    if arm.reads_satisfaction:
        signals = _signals(encoder)
        column = options.setdefault("column", next(iter(signals), None))
        if column not in signals:
            raise ValueError(
                f"--method={config.method} learns from a satisfaction column. Received: "
                f"column={column!r}. Expected one of: {', '.join(signals) or 'none is there'}."
            )
    return get_objective(arm.objective, encoder.model_features, **options)


def own_columns(model: ClickConfidenceModel, config: TrainConfig) -> tuple[str, ...]:
    """Satisfaction columns that the train steps of `model` read: none, but for the oracle.

    Raises:
      ValueError: the objective asks for columns, and the arm does not say that it reads any.
    """
    columns = () if model.objective is None else model.objective.columns
    if columns and not get_arm(config.method).reads_satisfaction:
        raise ValueError(
            f"--method={config.method} must not learn from what models are judged by. Received: "
            f"an objective that reads {', '.join(columns)}. Expected: an arm with "
            "`reads_satisfaction`."
        )
    return columns


def further_labels(model: ClickConfidenceModel) -> tuple[str, ...]:
    """Labels that the backbone learns next to the click, see `clsd_tf.backbones.mmoe`."""
    return tuple(getattr(model.backbone, "label_columns", ()))


def without_satisfaction(
    rows: tf.data.Dataset, encoder: Encoder, allowed: Collection[str] = ()
) -> tf.data.Dataset:
    """The rows, if they hold no satisfaction column but the allowed.

    Raises:
      ValueError: they hold another.
    """
    features = rows.element_spec[0]
    if leaked := [name for name in _signals(encoder) if name in features and name not in allowed]:
        raise ValueError(
            "Satisfaction columns judge models and never train them. Received: training rows with "
            f"{', '.join(leaked)}. Leave them out of `extra_columns` and of the backbone's tasks."
        )
    return rows


def _signals(encoder: Encoder) -> list[str]:
    return [column.name for column in encoder.spec.with_role("satisfaction")]
