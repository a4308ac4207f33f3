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

from clsd_tf.features import GROUP, LABEL, ROW, TEACHER_LOGIT, USER, WEIGHT
from clsd_tf.spec import read_spec
from data_pipeline.batch_sizes import empty_batches, even_sizes, num_batches_of
from data_pipeline.integrity import check_sizes, read_errors, verify
from data_pipeline.manifest import Manifest, ShardError, ShardInfo
from data_pipeline.scores import checked_sidecars, decode_logits
from data_pipeline.shard_format import ShardFeature, parse_blocks, parse_rows, shard_features
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

# Rows that are permuted together: as good as a full shuffle where rows were shuffled when written.
_WINDOW_ROWS = 32768
_ROWS_AT_ONCE = 256
_OPEN_FILES = 8
_SPEC = "spec.toml"
_SERIALIZED = "_serialized"


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

    Returns:
      Dataset of (features, label, weight). Features: name -> int64 ids `[batch]`, for lists
      `[batch, length]`, float32 `[batch]` for numeric columns; `_group` and `_user` int64
      `[batch]`; of the extra columns, `_row` int64 and others float32 `[batch]`; with
      `scores`, `_teacher_logit` float32 `[batch]`. Label and weight: float32 `[batch]`.

    Raises:
      ShardError: not a prepared data set, or a shard is missing or cut short.
      ScoreError: scores are missing, damaged, or of other rows.
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
    skip_epochs, skip_steps = divmod(skip_batches, steps) if steps else (0, 0)
    rows = _RowReader(directory, manifest, share, features, scores)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch) if shuffle else None
        windows = rows.windows(order)
        batches = windows.rebatch(sizes or [1], drop_remainder=drop_remainder)
        if num_batches is not None and len(sizes) < num_batches:
            batches = batches.concatenate(empty_batches(windows, steps - len(sizes)))
        return batches.skip(tf.where(epoch == skip_epochs, tf.constant(skip_steps, tf.int64), 0))

    dataset = tf.data.Dataset.range(skip_epochs, epochs).flat_map(one_epoch)
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
    rows = _RowReader(directory, Manifest.load(directory), [part], _select(directory, None, ()))
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


class _RowReader:
    """Reads a worker's rows window by window."""

    def __init__(
        self,
        directory: str | pathlib.Path,
        manifest: Manifest,
        share: Sequence[ShardPart],
        features: Sequence[ShardFeature],
        scores: str | pathlib.Path | None = None,
    ):
        self._columnar = manifest.layout == "columnar"
        self._record_rows = record_rows(manifest)
        self._features = features
        files = {_SERIALIZED: [pathlib.Path(directory) / part.shard.file for part in share]}
        if scores is not None:
            files[TEACHER_LOGIT] = checked_sidecars(scores, [part.shard for part in share])
        self._parts = (
            {name: tf.constant([*map(str, paths)], tf.string) for name, paths in files.items()},
            tf.constant([part.first for part in share], tf.int64),
            tf.constant([part.every for part in share], tf.int64),
        )

    def windows(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        """One pass. Windows are tables of parsed rows (columnar) or of serialized ones (row).

        Args:
          seed: int64 `[2]`, of the order of files and of the rows in each window; None: as written.
        """
        records = self._records(seed).rebatch(max(1, _WINDOW_ROWS // self._record_rows))

        def window(number: tf.Tensor, table: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            if self._columnar:
                table |= parse_blocks(table.pop(_SERIALIZED), self._features)
            if TEACHER_LOGIT in table:
                table[TEACHER_LOGIT] = decode_logits(table[TEACHER_LOGIT])
            if seed is None:
                return table
            rows = tf.shape(tf.nest.flatten(table)[0])[0]
            order = _permutation(rows, tf.random.fold_in(seed, number))
            return tf.nest.map_structure(lambda values: tf.gather(values, order), table)

        return records.enumerate().map(window, num_parallel_calls=tf.data.AUTOTUNE)

    def to_example(
        self, batch: dict[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """(features, label, weight) of a batch of what a window holds."""
        table = batch if self._columnar else parse_rows(batch[_SERIALIZED], self._features)
        features = {
            f.name: table[f.name] if f.is_float else tf.cast(table[f.name], tf.int64)
            for f in self._features
        }
        if TEACHER_LOGIT in batch:
            features[TEACHER_LOGIT] = batch[TEACHER_LOGIT]
        return features, tf.cast(features.pop(LABEL), tf.float32), features.pop(WEIGHT)

    def _records(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        """Serialized records, several to an element: taking single ones is what costs."""
        parts, cycle_length = self._parts, 1
        if seed is not None:
            order = _permutation(tf.size(parts[1]), seed)
            parts = tf.nest.map_structure(lambda values: tf.gather(values, order), parts)
            cycle_length = _OPEN_FILES
        at_once = max(1, _ROWS_AT_ONCE // self._record_rows)

        def records_of(
            paths: dict[str, tf.Tensor], first: tf.Tensor, every: tf.Tensor
        ) -> tf.data.Dataset:
            batches = {
                name: tf.data.TFRecordDataset(path).shard(every, first).batch(at_once)
                for name, path in paths.items()
            }
            return tf.data.Dataset.zip(batches)

        return tf.data.Dataset.from_tensor_slices(parts).interleave(
            records_of,
            cycle_length=cycle_length,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


def _permutation(size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(tf.range(size), seed)
