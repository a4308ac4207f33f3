"""Which rows of a split each of several workers reads: every row goes to exactly one of them."""

from __future__ import annotations

import dataclasses

from data_pipeline.manifest import Manifest, ShardInfo


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
    if not 0 <= worker_index < num_workers:
        raise ValueError(
            "`worker_index` must be in [0, num_workers). Received: "
            f"worker_index={worker_index}, num_workers={num_workers}."
        )
    shards = manifest.of_split(split)
    if len(shards) >= num_workers:
        return [ShardPart(shard, 0, 1, shard.rows) for shard in shards[worker_index::num_workers]]
    block = manifest.block_rows if manifest.layout == "columnar" else 1
    share = []
    for index, shard in enumerate(shards):
        first = (worker_index - index) % num_workers
        starts = range(first * block, shard.rows, num_workers * block)
        rows = sum(min(block, shard.rows - start) for start in starts)
        share.append(ShardPart(shard, first, num_workers, rows))
    return share
