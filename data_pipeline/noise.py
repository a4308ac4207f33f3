"""Planted noise: clicks that nobody made, so that confidence can be judged against the truth.

Non-clicks of the training and validation split are turned into clicks, at rates that a kind of
noise decides (`data_pipeline.noise_kinds`), before histories are made. The test split stays clean,
and the truth goes to a file that no reader opens.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import ibis.expr.types as ir
from ibis import ifelse
from ibis.backends import BaseBackend

from clsd_tf.features import GROUP, ROW
from data_pipeline.hashing import hashed
from data_pipeline.noise_base import LIMIT, NoiseKind, NoisyLog
from data_pipeline.splits import SPLIT
from data_pipeline.streaming import write_parquet

NOISE_FILE = "truth/noise.parquet"
_IS_NOISE = "_is_noise"
_NOISY_SPLITS = ("train", "valid")


def plant_noise(log: NoisyLog, rows: ir.Table, kind: NoiseKind) -> ir.Table:
    """Turns non-clicks into clicks and adds `_is_noise`, true where that happened.

    Args:
      log: that the rows are of.
      rows: with `_row`, `_split`, `_group` and the columns of the log; the label is 0 or 1.
      kind: where and at which rate.

    Raises:
      NoiseError: the kind does not fit the log.
    """
    rows = kind.add_limits(log, rows)
    drawn = hashed("noise", log.seed, rows[ROW]) < rows[LIMIT]
    label = log.spec.label.name
    planted = drawn & (rows[label] == 0) & rows[SPLIT].isin(_NOISY_SPLITS)
    click = ifelse(planted, 1, rows[label]).cast("int64")
    return rows.mutate(**{_IS_NOISE: planted, label: click}).drop(LIMIT)


def planted_shares(rows: ir.Table, label: str, group_names: Sequence[str]) -> dict[str, float]:
    """Group -> the share of its training rows without a click that were made clicks.

    Args:
      rows: of `plant_noise`.
      label: name of the label.
      group_names: in the order of their numbers; a group without such rows has 0.
    """
    training = rows.filter((rows[SPLIT] == "train") & (rows[_IS_NOISE] | (rows[label] == 0)))
    counted = training.group_by(GROUP).agg(share=training[_IS_NOISE].mean())
    shares = {row[GROUP]: row["share"] for row in counted.to_pyarrow().to_pylist()}
    return {name: shares.get(number, 0.0) for number, name in enumerate(group_names)}


def write_truth(engine: BaseBackend, rows: ir.Table, directory: pathlib.Path) -> None:
    """Writes `truth/noise.parquet`: `_row`, `split`, `is_noise` of training and validation rows."""
    path = directory / NOISE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = rows.filter(rows[SPLIT].isin(_NOISY_SPLITS)).order_by(ROW)
    columns = {ROW: truth[ROW], "split": truth[SPLIT], "is_noise": truth[_IS_NOISE]}
    write_parquet(engine, truth.select(**columns), path)
