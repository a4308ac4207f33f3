"""From checked impressions to a data set: the order in which things are decided.

splits -> activity -> tables of the encoding -> group numbers -> planted noise -> click histories
-> shards and their statistics. The tables come before the noise, which needs the groups that they
define; none of them depends on labels.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib

import ibis.expr.types as ir
from absl import logging
from ibis.backends import BaseBackend

from clsd_tf.encoding import Encoder
from clsd_tf.features import ClickLogSpec
from data_pipeline.activity import add_activity
from data_pipeline.column_shares import column_shares
from data_pipeline.engines import keep_table, leave_room
from data_pipeline.groups import add_group
from data_pipeline.history import click_histories
from data_pipeline.kept_tables import keep_tables
from data_pipeline.manifest import Layout, ShardInfo
from data_pipeline.noise import plant_noise, planted_shares, write_truth
from data_pipeline.noise_base import NoiseError, NoiseKind, NoisyLog
from data_pipeline.noise_kinds import GroupNoise, group_rates, parse_noise
from data_pipeline.oov_rates import OovRates
from data_pipeline.progress import progress, steps
from data_pipeline.shards import BLOCK_ROWS, WRITER_BYTES, default_threads, write_split
from data_pipeline.split_batches import split_batches
from data_pipeline.splits import SPLIT, SPLITS, add_split, split_sizes
from data_pipeline.statistics import learn_tables
from data_pipeline.summary import click_rates, distinct_ids, history_lengths

_ROWS_PER_SHARD = 100_000
_MAX_SHARDS = 1024


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """How a data set is written.

    Attributes:
      layout: of the shards, see `data_pipeline.shard_format`.
      num_shards: per split; None: one for 100,000 rows.
      block_rows: rows in a columnar record.
      noise_rates: one for each user group, or one for all; empty: no such noise is planted.
      noise_seed: of the planted noise.
      seed: of the order of training rows.
      encoding_from: an earlier data set whose encoding is kept; None learns one.
      grow_vocabulary: whether new tokens are appended to the vocabularies of `encoding_from`.
      noise: of another kind, see `data_pipeline.noise_kinds`; "groups:..." becomes `noise_rates`.

    Raises:
      NoiseError: `noise` is none, or there are `noise_rates` too.
      ValueError: `grow_vocabulary` without `encoding_from`.
    """

    layout: Layout = "columnar"
    num_shards: int | None = None
    block_rows: int = BLOCK_ROWS
    noise_rates: tuple[float, ...] = ()
    noise_seed: int = 0
    seed: int = 0
    encoding_from: str | None = None
    noise: str | None = None
    grow_vocabulary: bool = False

    def __post_init__(self) -> None:
        if self.grow_vocabulary and self.encoding_from is None:
            raise ValueError(
                "Vocabularies grow from those of an earlier data set. Received: grow_vocabulary "
                "without encoding_from. Leave it out: a new data set learns all of its tokens."
            )
        if self.noise is None:
            return
        if self.noise_rates:
            raise NoiseError(
                "One kind of noise is planted. Received: noise_rates and "
                f"noise={self.noise!r}. Leave one of them out."
            )
        kind = parse_noise(self.noise)
        # Noise by group has one form, so that data sets can be compared.
        by_group = kind.rates if isinstance(kind, GroupNoise) else ()
        object.__setattr__(self, "noise_rates", by_group)
        object.__setattr__(self, "noise", None if by_group else str(kind))

    @property
    def planted(self) -> NoiseKind | None:
        """The noise to plant."""
        if self.noise is not None:
            return parse_noise(self.noise)
        return GroupNoise(tuple(self.noise_rates)) if self.noise_rates else None


@dataclasses.dataclass(frozen=True)
class WrittenData:
    """What was written.

    Attributes:
      rows: split -> rows.
      shards: in the order of their rows.
      noise: `rates` by group, `seed`, and `planted` where the kind is not one by group (the rates
        are then the shares that came of it in training rows); or None.
      statistics: what `stats.json` says of the rows.
    """

    rows: dict[str, int]
    shards: tuple[ShardInfo, ...]
    noise: dict[str, object] | None
    statistics: dict[str, object]


def write_data_set(
    engine: BaseBackend,
    impressions: ir.Table,
    spec: ClickLogSpec,
    directory: pathlib.Path,
    options: WriteOptions,
    threads: int | None = None,
) -> WrittenData:
    """Writes encoding, shards and, if noise is planted, its truth into `directory`.

    Args:
      engine: that holds `impressions`; its tables are the caller's to remove.
      impressions: see `data_pipeline.loading`.
      spec: of the log.
      directory: an existing one.
      options: how.
      threads: that encode rows; None: `default_threads` of them.

    Raises:
      SplitError: there is nothing to train on.
      ActivityError, NoiseError: what spec or options ask for does not fit the rows.
    """
    with steps() as begin:
        begin("Splits and groups")
        rows = add_split(impressions, spec)
        if spec.activity is not None or spec.split.by == "user":  # dear to find out anew
            rows = keep_table(engine, "divided_rows", add_activity(rows, spec))
        sizes = split_sizes(rows)
        begin("Vocabularies, boundaries and moments")
        if options.encoding_from is None:
            learned = learn_tables(engine, rows, spec, directory)
        else:
            source, grow = options.encoding_from, options.grow_vocabulary
            learned = keep_tables(rows, spec, source, directory, grow=grow)
        encoder = Encoder(spec, learned.encoding, directory)
        rows = add_group(engine, rows, encoder)
        noise = None
        if (kind := options.planted) is not None:
            begin("Planted noise")
            log = NoisyLog(engine, spec, encoder.group_names(), options.noise_seed)
            rows = keep_table(engine, "noisy_rows", plant_noise(log, rows, kind))
            write_truth(engine, rows, directory)
            noise = _told(kind, log, rows)
        histories = None
        if spec.history is not None:
            begin("Click histories")
            histories = click_histories(engine, rows, spec, directory)
        begin("Statistics")
        statistics = {
            **distinct_ids(rows, spec),
            **click_rates(rows, spec, encoder),
            "columns": column_shares(
                engine,
                rows.filter(rows[SPLIT] == "train"),
                spec,
                [column for column in spec.encoded_columns if not column.derived],
            ),
            "tokens_with_line_breaks": learned.tokens_with_line_breaks,
            "new_tokens": learned.new_tokens,
        }
        if histories is not None:
            statistics["history_lengths"] = history_lengths(rows, histories, spec)

    writers = threads or default_threads()
    leave_room(engine, writers * WRITER_BYTES)
    shards: list[ShardInfo] = []
    oov = OovRates(spec)
    for split in SPLITS:
        if not sizes[split]:
            logging.warning("The split '%s' is empty.", split)
        with progress(f"Writing {sizes[split]:,} rows of {split}", sizes[split]) as advance:
            shards += write_split(
                split_batches(engine, rows, histories, spec, split, options.seed),
                directory,
                split,
                encoder,
                rows=sizes[split],
                num_shards=options.num_shards or _default_shards(sizes[split]),
                layout=options.layout,
                block_rows=options.block_rows,
                progress=advance,
                observe=functools.partial(oov.add, split),
                threads=writers,
            )
    statistics["oov_rates"] = oov.rates()
    return WrittenData({s: sizes[s] for s in SPLITS}, tuple(shards), noise, statistics)


def _told(kind: NoiseKind, log: NoisyLog, rows: ir.Table) -> dict[str, object]:
    """What the manifest says of planted noise: above all the rate of each group."""
    if isinstance(kind, GroupNoise):
        rates = group_rates(kind.rates, log.group_names)
        return {"rates": dict(zip(log.group_names, rates, strict=True)), "seed": log.seed}
    shares = planted_shares(rows, log.spec.label.name, log.group_names)
    return {"rates": shares, "seed": log.seed, "planted": str(kind)}


def _default_shards(rows: int) -> int:
    return min(max(1, math.ceil(rows / _ROWS_PER_SHARD)), _MAX_SHARDS)
