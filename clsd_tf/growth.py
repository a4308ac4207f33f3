"""What a model has learned, in a model of the same kind whose vocabularies have grown.

A vocabulary grows at its end, so that an id goes on meaning what it meant. But tables of several
columns lie in one variable (`FusedEmbedding`), in which rows move when the table before them grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.ema import EMATeacher
from clsd_tf.embeddings import embeddings_of
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import RowwiseAdagrad, build_optimizer, parts_of


class Rows(NamedTuple):
    """Where the rows of a variable went: int64 [rows] each; other new rows are fresh."""

    old: np.ndarray
    new: np.ndarray


def take_over(old: ClickConfidenceModel, new: ClickConfidenceModel) -> None:
    """Gives `new` all that `old` has learned; what is about new ids begins afresh.

    That is backbone, optimizer, confidence, running means and an EMA teacher, of which new rows
    begin as the student's do.

    Args:
      old: compiled and built.
      new: of the same options, compiled and built; each of its tables has at least as many rows.

    Raises:
      ValueError: the models differ by more than grown tables of `FusedEmbedding`.
    """
    for before, now in ((old.backbone, new.backbone), (old.mean_weight, new.mean_weight)):
        _take(before, now)
    if new.confidence is not None:
        _take(old.confidence, new.confidence)
    if isinstance(new.teacher, EMATeacher):
        _take(old.teacher.backbone, new.teacher.backbone)
        tables = _tables(old.teacher.backbone, new.teacher.backbone)
        new.teacher.go_on_from(old.teacher, new.backbone, [rows for _, _, rows in tables])
    _take_optimizer(old, new)


def _take(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    moved = {table.ref(): rows for _, table, rows in _tables(old, new)}
    _require_as_many(old.weights, new.weights)
    for before, now in zip(old.weights, new.weights, strict=True):
        _assign(before, now, moved.get(now.ref()))


def _take_optimizer(old: ClickConfidenceModel, new: ClickConfidenceModel) -> None:
    for model in (old, new):
        build_optimizer(model.optimizer, model.learners)
    tables = [t for pair in zip(old.learners, new.learners, strict=True) for t in _tables(*pair)]
    for before, now in zip(parts_of(old.optimizer), parts_of(new.optimizer), strict=True):
        moved: dict[object, Rows] = {}
        if isinstance(now, RowwiseAdagrad):
            moved = {now.accumulator(table).ref(): rows for _, table, rows in tables}
        shapes = {(o.shape, n.shape): rows for o, n, rows in tables}
        _require_as_many(before.variables, now.variables)
        for mine, theirs in zip(before.variables, now.variables, strict=True):
            rows = moved.get(theirs.ref()) or shapes.get((mine.shape, theirs.shape))
            _assign(mine, theirs, rows)


def _tables(
    old: keras.layers.Layer, new: keras.layers.Layer
) -> Iterator[tuple[tf.Variable, tf.Variable, Rows]]:
    """Tables of both layers, with the rows that are the same."""
    for before, now in zip(embeddings_of(old), embeddings_of(new), strict=True):
        tables = zip(before.embedding_variables, now.embedding_variables, strict=True)
        segments = zip(before.segments, now.segments, strict=True)
        for (mine, theirs), (of_mine, of_theirs) in zip(tables, segments, strict=True):
            yield mine, theirs, _moved(of_mine, of_theirs)


def _moved(old: dict[str, tuple[int, int]], new: dict[str, tuple[int, int]]) -> Rows:
    sizes = {name: size for name, (_, size) in old.items()}
    if old.keys() != new.keys() or any(new[name][1] < size for name, size in sizes.items()):
        raise ValueError(
            f"Tables can only grow. Received: rows { ({n: s for n, (_, s) in new.items()}) }. "
            f"Expected: at least {sizes}. Prepare the log with --encoding_from naming the data set "
            "of the run to go on from."
        )
    ranges = [(old[name][0], new[name][0], sizes[name]) for name in old]
    return Rows(
        np.concatenate([np.arange(start, start + size) for start, _, size in ranges]),
        np.concatenate([np.arange(start, start + size) for _, start, size in ranges]),
    )


def _assign(old: tf.Variable, new: tf.Variable, rows: Rows | None) -> None:
    if rows is None:
        if old.shape != new.shape:
            raise ValueError(
                f"A weight has grown that is no table of `FusedEmbedding`. Received: '{new.name}' "
                f"of shape {new.shape.as_list()}, formerly {old.shape.as_list()}. Prepare the log "
                "without --grow_vocabulary, or train from the start."
            )
        new.assign(old)
        return
    new.scatter_update(tf.IndexedSlices(tf.gather(old, rows.old), rows.new))


def _require_as_many(old: Sequence[tf.Variable], new: Sequence[tf.Variable]) -> None:
    if len(old) != len(new):
        raise ValueError(
            f"Only models of the same options go on from each other. Received: {len(new)} "
            f"variables. Expected: {len(old)}."
        )
