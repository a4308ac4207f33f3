"""An index of the items of a two-tower model: built, judged, exported."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from clsd_tf.batches import unpack_batch
from clsd_tf.compat import use_keras_2
from clsd_tf.retrieval import TwoTowerModel

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402


def distinct_items(batches: Iterable, model: TwoTowerModel) -> dict[str, np.ndarray]:
    """Features of every item in batches (features, ...), as they were seen last."""
    columns: dict[str, list[np.ndarray]] = {f.name: [] for f in model.item_tower.features}
    for batch in batches:
        features = batch[0] if isinstance(batch, tuple) else batch
        for name, parts in columns.items():
            parts.append(np.asarray(features[name]))
    whole = {name: np.concatenate(parts)[::-1] for name, parts in columns.items()}
    _, first = np.unique(whole[model.item_key], return_index=True)
    return {name: values[first] for name, values in whole.items()}


def build_index(
    model: TwoTowerModel,
    items: Mapping[str, np.ndarray],
    k: int = 100,
    *,
    approximate: bool = False,
) -> tfrs.layers.factorized_top_k.TopK:
    """An index that maps users' features to scores and ids of their k best items, [batch, k] each.

    Args:
      model: a trained model.
      items: features of the candidates, such as `distinct_items` gives.
      k: number of items; at most as many as there are.
      approximate: ScaNN instead of all products; it needs the package `scann`.

    Raises:
      ValueError: there are fewer items than k, or `scann` is not installed.
    """
    ids = tf.constant(items[model.item_key])
    if len(ids) < k:
        raise ValueError(f"`k` must be at most the number of items. Received: k={k}, {len(ids)}.")
    if approximate:
        try:
            index = tfrs.layers.factorized_top_k.ScaNN(model.user_tower, k=k)
        except ImportError as error:
            raise ValueError(
                "An approximate index needs the package `scann`, which is not installed. Received: "
                "approximate=True. Install it where there is a wheel for this TensorFlow, or use "
                "the exact index."
            ) from error
    else:
        index = tfrs.layers.factorized_top_k.BruteForce(model.user_tower, k=k)
    return index.index(model.item_tower({n: tf.constant(v) for n, v in items.items()}), ids)


def recall_at_k(
    index: tfrs.layers.factorized_top_k.TopK,
    batches: Iterable,
    item_key: str,
    satisfaction_key: str | None = None,
) -> float:
    """Share of clicks whose item is among the k that the index gives for the user.

    Args:
      index: see `build_index`; it says k.
      batches: (features, label, ...).
      item_key: feature that holds the item's id.
      satisfaction_key: feature of zeros and ones that says which clicks satisfied: only these
        count. None for all clicks.

    Returns:
      The share, nan where no click counts.
    """
    hits = rows = 0
    for batch in batches:
        features, labels, _ = unpack_batch(batch)
        counts = labels.numpy() > 0
        if satisfaction_key is not None:
            counts &= np.asarray(features[satisfaction_key]) == 1
        if not counts.any():
            continue
        wanted = {f.name: features[f.name][counts] for f in index.query_model.features}
        _, found = index(wanted)
        hits += int(np.any(found.numpy() == np.asarray(features[item_key])[counts, None], 1).sum())
        rows += int(counts.sum())
    return hits / rows if rows else float("nan")


def export_index(
    index: tfrs.layers.factorized_top_k.TopK, directory: str | pathlib.Path
) -> pathlib.Path:
    """Writes an index as a SavedModel: users' encoded features -> `scores` and `items`, [batch, k].

    An index by ScaNN is served where the operations of `scann` are loaded.

    Raises:
      FileExistsError: the directory exists.
    """
    directory = pathlib.Path(directory)
    if directory.exists():
        raise FileExistsError(
            f"There is something at the place of the index already. Received: {directory}. "
            "Expected: a directory that does not exist; choose another one."
        )
    tower = index.query_model

    def retrieve(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, items = index(features)
        return {"scores": scores, "items": items}

    specs = {
        f.name: tf.TensorSpec(
            [None, f.length] if f.is_list else [None],
            tf.float32 if f.kind == "numeric" else tf.int64,
            name=f.name,
        )
        for f in tower.features
    }
    module = tf.Module()
    module.index = index
    beside = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        signature = tf.function(retrieve).get_concrete_function(**specs)
        # Operations of a package of their own, which the index of ScaNN uses.
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(module, str(beside), {"serving_default": signature}, options)
        os.rename(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return directory
