"""Two towers on a prepared data set: their features, their training, and their judge."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import tf_keras as keras

from clsd_tf import ClickConfidenceModel, Encoder
from clsd_tf.entities import described_entity
from clsd_tf.features import ModelFeature
from clsd_tf.retrieval import TwoTowerModel
from clsd_tf.retrieval_index import build_index, distinct_items, recall_at_k
from data_pipeline.progress import Progress
from data_pipeline.reader import make_dataset, read_errors

if TYPE_CHECKING:  # it wants Keras 2 to be chosen before, see `clsd_tf.compat`
    import tensorflow_recommenders as tfrs

_BATCH_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Towers:
    """What is trained, and how.

    Attributes:
      units: widths of the hidden layers.
      dim: of the vectors.
      correct_negatives: see `TwoTowerModel`.
      epochs: passes over the rows.
      batch_size: impressions a step.
      seed: of initial weights and the order of rows.
    """

    units: tuple[int, ...] = (64,)
    dim: int = 32
    correct_negatives: bool = True
    epochs: int = 3
    batch_size: int = 1024
    seed: int = 0


def tower_features(encoder: Encoder) -> tuple[list[ModelFeature], list[ModelFeature]]:
    """The features that describe the user, and those that describe the item.

    What describes the request (hour, scene, place in a list) is known to neither tower.
    """
    sides: dict[str, list[ModelFeature]] = {"user": [], "item": [], "request": []}
    columns = {column.name: column for column in encoder.spec.model_columns}
    for feature in encoder.model_features:
        sides[described_entity(encoder.spec, columns[feature.name])].append(feature)
    return sides["user"], sides["item"]


def satisfaction_column(data_dir: str | pathlib.Path, name: str | None) -> str | None:
    """The satisfaction column to judge by: `name`, or the first; None where there is none.

    Raises:
      ValueError: `name` is no satisfaction column of the data set.
    """
    columns = [column.name for column in Encoder.load(data_dir).spec.with_role("satisfaction")]
    if name is not None and name not in columns:
        raise ValueError(
            f"--judge names a satisfaction column. Received: '{name}'. Expected one of: "
            f"{', '.join(columns) or 'none, this data set has no such column'}."
        )
    return name or next(iter(columns), None)


def train_towers(
    data_dir: str | pathlib.Path, towers: Towers, scorer: ClickConfidenceModel | None
) -> TwoTowerModel:
    """Trains two towers on the clicks of the training rows."""
    keras.utils.set_random_seed(towers.seed)
    users, items = tower_features(Encoder.load(data_dir))
    model = TwoTowerModel(
        users,
        items,
        scorer,
        correct_negatives=towers.correct_negatives,
        units=towers.units,
        dim=towers.dim,
    )
    rows = make_dataset(
        data_dir, "train", towers.batch_size, seed=towers.seed, epochs=towers.epochs
    )
    model.compile()
    with (
        read_errors(data_dir),
        Progress("Training two towers", int(rows.cardinality()), "steps") as bar,
    ):
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: bar.advance(1)
        )
        model.fit(rows, callbacks=[count], verbose=0)
    bar.say_done()
    return model


def judge_towers(
    model: TwoTowerModel, data_dir: str | pathlib.Path, split: str, k: int, judge: str | None
) -> tuple[tfrs.layers.factorized_top_k.TopK, dict[str, object]]:
    """Builds the index of the items of the training rows, and judges it.

    Args:
      model: trained towers.
      data_dir: prepared data set.
      split: of the clicks to judge by.
      k: items to retrieve; all where there are fewer.
      judge: satisfaction column of zeros and ones; None to judge by clicks alone.

    Returns:
      The index, and its metrics: numbers of `items` and `k`, `recall` on clicks, and on those that
      satisfied, `recall_<judge>`; `chance` is the recall of items drawn at random.
    """
    names = [feature.name for feature in model.item_tower.features]
    seen = make_dataset(data_dir, "train", _BATCH_ROWS, shuffle=False, columns=names)
    items = distinct_items(seen, model)
    count = len(items[model.item_key])
    index = build_index(model, items, min(k, count))
    extra = [judge] if judge is not None else []
    rows = make_dataset(data_dir, split, _BATCH_ROWS, shuffle=False, extra_columns=extra)
    metrics: dict[str, object] = {"items": count, "k": min(k, count)}
    metrics["recall"] = recall_at_k(index, rows, model.item_key)
    if judge is not None:
        metrics[f"recall_{judge}"] = recall_at_k(index, rows, model.item_key, judge)
    metrics["chance"] = min(k, count) / count
    return index, metrics
