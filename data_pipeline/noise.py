"""Planted noise: clicks that nobody made, so that confidence can be judged against the truth.

A non-click of the training or validation split is turned into a click with the rate of its user
group, before histories are made. The test split stays clean, and the truth goes to a file that no
reader opens.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from clsd_tf.features import GROUP, ROW
from data_pipeline.hashing import hashed, threshold
from data_pipeline.splits import SPLIT

NOISE_FILE = "truth/noise.parquet"
_IS_NOISE = "_is_noise"
_NOISY_SPLITS = ("train", "valid")


class NoiseError(ValueError):
    """Noise rates that do not fit the user groups."""


def group_rates(rates: Sequence[float], names: Sequence[str]) -> list[float]:
    """The rate of each group, in the order of their numbers; a single rate is that of all.

    Args:
      rates: chance that a non-click becomes a click, in [0, 1].
      names: of the groups, in the order of their numbers.

    Raises:
      NoiseError: a rate is no probability, or there is another number of rates than of groups.
    """
    outside = [rate for rate in rates if not 0 <= rate <= 1]
    if outside:
        raise NoiseError(f"A noise rate is a probability in [0, 1]. Received: {outside}.")
    if len(rates) == 1:
        rates = [*rates] * len(names)
    if len(rates) != len(names):
        raise NoiseError(
            f"Noise rates go with user groups, one each, or one for all. Received: {len(rates)} "
            f"rates. Expected: {len(names)}, for the groups {', '.join(names)}."
        )
    return [*rates]


def plant_noise(rows: ir.Table, label: str, rates: Sequence[float], seed: int) -> ir.Table:
    """Turns non-clicks into clicks and adds `_is_noise`, true where that happened.

    Args:
      rows: with `_row`, `_split`, `_group` and the label, 0 or 1.
      label: name of the label.
      rates: one for each group, in the order of their numbers.
      seed: another one draws other clicks.
    """
    chance = hashed("noise", seed, rows[ROW])
    drawn = ibis.or_(
        *((rows[GROUP] == group) & (chance < threshold(rate)) for group, rate in enumerate(rates))
    )
    planted = drawn & (rows[label] == 0) & rows[SPLIT].isin(_NOISY_SPLITS)
    click = ibis.ifelse(planted, 1, rows[label]).cast("int64")
    return rows.mutate(**{_IS_NOISE: planted, label: click})


def write_truth(engine: Backend, rows: ir.Table, directory: pathlib.Path) -> None:
    """Writes `truth/noise.parquet`: `_row`, `split`, `is_noise` of training and validation rows."""
    path = directory / NOISE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = rows.filter(rows[SPLIT].isin(_NOISY_SPLITS)).order_by(ROW)
    columns = {ROW: truth[ROW], "split": truth[SPLIT], "is_noise": truth[_IS_NOISE]}
    engine.to_parquet(truth.select(**columns), path)
