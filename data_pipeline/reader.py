"""Shards -> `tf.data.Dataset` of (features, label, weight), in an order that can be replayed.

    train = make_dataset("prepared", "train", 4096, seed=1, epochs=2)
    with read_errors("prepared"):
        model.fit(train)

Rows were shuffled when they were written. Each epoch reads the files in another order, several at
a time, and permutes rows inside a window of many blocks. All of it follows from (seed, epoch), so
that an interrupted run goes on with `skip_batches` where it was.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import tensorflow as tf

from clsd_tf.features import GROUP, LABEL, ROW, USER, WEIGHT
from clsd_tf.spec import read_spec
from data_pipeline.batch_sizes import empty_batches, even_sizes, num_batches_of
from data_pipeline.integrity import check_sizes, read_errors, verify
from data_pipeline.manifest import Manifest, ShardError, ShardInfo
from data_pipeline.row_windows import RowReader
from data_pipeline.served_batches import Order, served_batches
from data_pipeline.service_client import InputService
from data_pipeline.shard_format import ShardFeature, shard_features
from data_pipeline.sharing import (
    ShardPart,
    divide,
    record_rows,
    without_share,
    worker_share,
)

__all__ = [
    "ShardError",
    "make_dataset",
    "read_errors",
    "shard_batches",
    "steps_per_epoch",
    "verify",
]

_SPEC = "spec.toml"


def make_dataset(
    directory: str | pathlib.Path,
    split: str,
    batch_size: int,
    *,
    shuffle: bool | None = None,
    seed: int = 0,
    epochs: int = 1,
    skip_batches: int = 0,
    num_workers: int = 1,
    worker_index: int = 0,
    without_fold: tuple[int, int] | None = None,
    num_batches: int | None = None,
    columns: Sequence[str] | None = None,
    extra_columns: Sequence[str] = (),
    scores: str | pathlib.Path | None = None,
    drop_remainder: bool = False,
    service: InputService | None = None,
) -> tf.data.Dataset:
    """Reads a split of a prepared data set, either layout.

    Args:
      directory: output of `clsd-prepare`.
      split: "train", "valid" or "test".
      batch_size: rows in a batch of this worker; the last batch of each epoch may be smaller.
      shuffle: whether to change the order from epoch to epoch; None: for "train" only. Without it
        rows come in the order of `keys/`.
      seed: of the order.
      epochs: passes over the data.
      skip_batches: batches that were consumed before; the rest is what would have followed them.
        Whole epochs are skipped without reading.
      num_workers: workers that share the rows, each row going to exactly one of them: by file if
        there are enough, else record by record of every file.
      worker_index: which of them this is.
      without_fold: (fold, number of folds): reads all rows but those that this worker of so many
        would read.
      num_batches: batches of an epoch, whatever `batch_size`; sizes differ by one row at most,
        and where there are fewer rows than batches, the last ones are empty. Workers whose shares
        differ so take the same number of steps.
      columns: model columns to read, None for all.
      extra_columns: satisfaction columns, labels besides the click, and `_row`, read only on
        request.
      scores: directory of the teacher's logits (`clsd-score`), read along with the rows.
      drop_remainder: whether to leave out a smaller last batch.
      service: that reads and parses for this process and others (`clsd-input-service`); the
        batches are the same.

    Returns:
      Dataset of (features, label, weight). Features: name -> int64 ids `[batch]`, for lists
      `[batch, length]`, float32 `[batch]` for numeric columns; `_group` and `_user` int64
      `[batch]`; of the extra columns, `_row` int64 and others float32 `[batch]`; with
      `scores`, `_teacher_logit` float32 `[batch]`. Label and weight: float32 `[batch]`.

    Raises:
      ShardError: not a prepared data set, or a shard is missing or cut short.
      ScoreError: scores are missing, damaged, or of other rows.
      InputServiceError: the service does not answer.
      ValueError: an argument is out of range, or names what the data set does not have.
    """
    manifest = Manifest.load(directory)
    features = _select(directory, columns, extra_columns)
    share = _share(manifest, split, num_workers, worker_index, without_fold)
    check_sizes(directory, [part.shard for part in share])
    sizes = [batch_size]
    if num_batches is None:
        steps = num_batches_of(share, batch_size, drop_remainder)
    else:
        steps, sizes = num_batches, even_sizes(share, num_batches, drop_remainder)
    total = steps * epochs
    if epochs < 0 or not 0 <= skip_batches <= total:
        raise ValueError(
            f"`epochs` must be >= 0 and `skip_batches` between 0 and the {total} batches of them. "
            f"Received: epochs={epochs}, skip_batches={skip_batches}."
        )
    shuffle = split == "train" if shuffle is None else shuffle
    rows = RowReader(directory, manifest, share, features, scores)

    def batches_from(start: int | tf.Tensor) -> tf.data.Dataset:
        first = start // steps if steps else 0

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch) if shuffle else None
            windows = rows.windows(order)
            batches = windows.rebatch(sizes or [1], drop_remainder=drop_remainder)
            if num_batches is not None and len(sizes) < num_batches:
                batches = batches.concatenate(empty_batches(windows, steps - len(sizes)))
            return batches.skip(
                tf.where(epoch == first, tf.cast(start - first * steps, tf.int64), 0)
            )

        return tf.data.Dataset.range(first, epochs).flat_map(one_epoch)

    if service is None:
        dataset = batches_from(skip_batches)
    else:
        order = Order(
            {
                "rows": rows.identity,
                "sizes": [steps, sizes],
                "seed": seed if shuffle else None,
                "drop_remainder": drop_remainder,
            },
            first=skip_batches // steps * steps if steps else 0,
            start=skip_batches,
            stop=total,
            batches_from=lambda start: batches_from(start).map(rows.to_table),
        )
        dataset = served_batches(service, order)
    dataset = dataset.map(rows.to_example, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(total - skip_batches))
    options = tf.data.Options()
    options.deterministic = True
    if num_workers > 1:  # the rows are divided already
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(2).with_options(options)


def steps_per_epoch(
    directory: str | pathlib.Path,
    split: str,
    batch_size: int,
    num_workers: int = 1,
    worker_index: int = 0,
    *,
    without_fold: tuple[int, int] | None = None,
    drop_remainder: bool = False,
) -> int:
    """Batches that `make_dataset` yields in an epoch. Workers may differ: train for the fewest."""
    share = _share(Manifest.load(directory), split, num_workers, worker_index, without_fold)
    return num_batches_of(share, batch_size, drop_remainder)


def shard_batches(
    directory: str | pathlib.Path, shard: ShardInfo, batch_size: int
) -> tf.data.Dataset:
    """The model's features of one shard in batches, in the order of its rows."""
    check_sizes(directory, [shard])
    part = ShardPart(shard, 0, 1, shard.rows)
    rows = RowReader(directory, Manifest.load(directory), [part], _select(directory, None, ()))
    examples = rows.windows(None).rebatch(batch_size).map(rows.to_example)
    return examples.map(lambda features, label, weight: features).prefetch(2)


def _share(
    manifest: Manifest,
    split: str,
    num_workers: int,
    worker_index: int,
    without_fold: tuple[int, int] | None,
) -> list[ShardPart]:
    if without_fold is None:
        return worker_share(manifest, split, num_workers, worker_index)
    fold, num_folds = without_fold
    if not 0 <= fold < num_folds or num_folds < 2:
        raise ValueError(
            "`without_fold` must be (fold, number of folds) with at least 2 folds. Received: "
            f"without_fold={without_fold}."
        )
    rest = without_share(manifest, split, num_folds, fold)
    return divide(rest, num_workers, worker_index, block=record_rows(manifest))


def _select(
    directory: str | pathlib.Path, columns: Sequence[str] | None, extra_columns: Sequence[str]
) -> list[ShardFeature]:
    """The features of a shard that have to be parsed."""
    spec = read_spec(pathlib.Path(directory) / _SPEC)
    model = [column.name for column in spec.model_columns]
    signals = (*spec.with_role("satisfaction"), *spec.further_labels)
    extra = [*(column.name for column in signals), ROW]
    wanted = model if columns is None else list(columns)
    choices = (("columns", wanted, model), ("extra_columns", extra_columns, extra))
    for argument, names, known in choices:
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"`{argument}` names what the shards do not hold there. Received: "
                f"{', '.join(unknown)}. Expected some of: {', '.join(known)}."
            )
    kept = {*wanted, *extra_columns, LABEL, WEIGHT, GROUP, USER}
    return [feature for feature in shard_features(spec) if feature.name in kept]
