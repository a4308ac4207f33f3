"""Which rows of a split each of several workers reads: every row goes to exactly one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from data_pipeline.manifest import Manifest, ShardInfo


def record_rows(manifest: Manifest) -> int:
    """Rows in a record of the data set; the last record of a shard may have fewer."""
    return manifest.block_rows if manifest.layout == "columnar" else 1


@dataclasses.dataclass(frozen=True)
class ShardPart:
    """The records `first`, `first + every`, ... of a shard, which hold `rows` rows."""

    shard: ShardInfo
    first: int
    every: int
    rows: int


def worker_share(
    manifest: Manifest, split: str, num_workers: int, worker_index: int
) -> list[ShardPart]:
    """What one worker reads of a split.

    With as many shards as workers, or more, shard i goes to worker i modulo `num_workers`. With
    fewer, record j of shard i goes to worker i + j modulo `num_workers`: blocks in the columnar
    layout, rows in the other.

    Raises:
      ValueError: there is no such split or worker.
    """
    whole = [ShardPart(shard, 0, 1, shard.rows) for shard in manifest.of_split(split)]
    return divide(whole, num_workers, worker_index, block=record_rows(manifest))


def divide(
    parts: Sequence[ShardPart], num_workers: int, worker_index: int, *, block: int
) -> list[ShardPart]:
    """What one worker reads of given parts, by the rule of `worker_share`.

    Args:
      parts: of shards.
      num_workers: that share them, each row going to exactly one.
      worker_index: which of them this is.
      block: rows in a record.

    Raises:
      ValueError: there is no such worker.
    """
    if not 0 <= worker_index < num_workers:
        raise ValueError(
            "`worker_index` must be in [0, num_workers). Received: "
            f"worker_index={worker_index}, num_workers={num_workers}."
        )
    if len(parts) >= num_workers:
        return list(parts[worker_index::num_workers])
    share = []
    for index, part in enumerate(parts):
        first = part.first + part.every * ((worker_index - index) % num_workers)
        every = part.every * num_workers
        starts = range(first * block, part.shard.rows, every * block)
        rows = sum(min(block, part.shard.rows - start) for start in starts)
        share.append(ShardPart(part.shard, first, every, rows))
    return share


def worker_of(shard: int, record: int, *, num_shards: int, num_workers: int) -> int:
    """The worker that reads the record of this number in the shard of this number."""
    return (shard if num_shards >= num_workers else shard + record) % num_workers


def without_share(manifest: Manifest, split: str, num_folds: int, fold: int) -> list[ShardPart]:
    """What is left of a split without a fold, which is what one of `num_folds` workers would read.

    Raises:
      ValueError: there is no such split or fold, or a fold has no rows.
    """
    shares = [worker_share(manifest, split, num_folds, index) for index in range(num_folds)]
    if not all(sum(part.rows for part in share) for share in shares):
        raise ValueError(
            f"Split '{split}' is too small for {num_folds} folds. Received: "
            f"{manifest.rows[split]} rows in records of {record_rows(manifest)}. Ask for fewer "
            "folds, or prepare the log with smaller --block_rows."
        )
    return [part for index, share in enumerate(shares) if index != fold for part in share]
