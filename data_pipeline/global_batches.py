"""Batches that are the same however many processes put them together.

The rows of a split are divided into shares (`data_pipeline.sharing`), and a global batch takes a
part of each share. Replicas read the shares, one or several each, and what is trained on depends on
the number of shares alone: one process that reads four shares trains on the rows of four workers
that read one each, in the same order.

    share 0   |--- step 0 ---|--- step 1 ---| ...   replica 0
    share 1   |--- step 0 ---|--- step 1 ---| ...   replica 1, or replica 0 too
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TypedDict, Unpack

import tensorflow as tf

from data_pipeline.reader import make_dataset, steps_per_epoch
from data_pipeline.service_client import InputService


class DatasetOptions(TypedDict, total=False):
    """Options of `make_dataset` that are the same for all who read a split."""

    shuffle: bool | None
    seed: int
    epochs: int
    skip_batches: int
    without_fold: tuple[int, int] | None
    columns: Sequence[str] | None
    extra_columns: Sequence[str]
    scores: str | pathlib.Path | None
    drop_remainder: bool
    service: InputService | None


def replica_batches(
    directory: str | pathlib.Path,
    split: str,
    batch_size: int,
    *,
    num_shares: int,
    num_replicas: int = 1,
    replicas: Sequence[int] = (0,),
    **options: Unpack[DatasetOptions],
) -> tf.data.Dataset:
    """What the replicas of one process read.

    Every replica takes as many steps as one process would, `steps_per_epoch(directory, split,
    batch_size)`. A global batch holds `batch_size` rows or, with several shares, nearly so: the
    rows of each share are spread evenly over the steps.

    Args:
      directory: output of `clsd-prepare`.
      split: of it.
      batch_size: rows of a global batch.
      num_shares: that the rows are divided into; a multiple of `num_replicas`.
      num_replicas: of all processes together.
      replicas: those of this process.
      **options: of `make_dataset`, for every share. `skip_batches` counts steps.

    Returns:
      Dataset of (features, label, weight); of several replicas, their batches of the first step one
      after the other, then those of the second, as `distribute_datasets_from_function` takes them.

    Raises:
      ValueError: shares cannot be divided among the replicas.
    """
    if num_shares < 1 or num_shares % num_replicas:
        raise ValueError(
            "The shares of the input are divided evenly among the replicas. Received: "
            f"num_shares={num_shares} for {num_replicas} replicas. Expected: a multiple of "
            f"{num_replicas} (`--input_shares` of `clsd-train`)."
        )
    if num_shares == 1:
        return make_dataset(directory, split, batch_size, **options)
    steps = steps_per_epoch(directory, split, batch_size, without_fold=options.get("without_fold"))

    def share(index: int) -> tf.data.Dataset:
        return make_dataset(
            directory,
            split,
            batch_size,
            num_batches=steps,
            num_workers=num_shares,
            worker_index=index,
            **options,
        )

    each = num_shares // num_replicas
    read = [
        _side_by_side([share(index) for index in range(each * replica, each * (replica + 1))])
        for replica in replicas
    ]
    return read[0] if len(read) == 1 else _in_turn(read)


def _side_by_side(shares: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
    """Batches of several shares as one."""
    if len(shares) == 1:
        return shares[0]

    def together(*batches: tuple) -> tuple:
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)

    return tf.data.Dataset.zip(tuple(shares)).map(together, num_parallel_calls=tf.data.AUTOTUNE)


def _in_turn(datasets: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
    """An element of each, again and again."""

    def one_by_one(*batches: tuple) -> tf.data.Dataset:
        first, *others = (tf.data.Dataset.from_tensors(batch) for batch in batches)
        for other in others:
            first = first.concatenate(other)
        return first

    return tf.data.Dataset.zip(tuple(datasets)).flat_map(one_by_one)
