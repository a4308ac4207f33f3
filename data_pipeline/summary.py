"""What a prepared data set is like, in numbers: `stats.json`."""

from __future__ import annotations

from typing import TypeVar

import ibis.expr.types as ir

from clsd_tf.encoding import Encoder
from clsd_tf.features import GROUP, ROW, ClickLogSpec
from data_pipeline.arrow_encoding import DAY
from data_pipeline.history import LENGTH, ClickHistories
from data_pipeline.splits import HISTORY, SPLIT, SPLITS

_Counts = dict[str, int | float]
_Value = TypeVar("_Value")


def click_rates(rows: ir.Table, spec: ClickLogSpec, encoder: Encoder) -> dict[str, object]:
    """Rows, clicks and click rate: per split, per day, and per group and split.

    Labels are those of the shards: with planted noise, the noisy ones.
    """
    current = rows.filter(rows[SPLIT] != HISTORY)
    groups: dict[str, dict[str, _Counts]] = {}
    for (group, split), counts in _clicks(current, spec, GROUP, SPLIT).items():
        groups.setdefault(encoder.group_names()[group], {})[split] = counts
    splits = {split: counts for (split,), counts in _clicks(rows, spec, SPLIT).items()}
    return {
        "splits": _in_order(splits),
        "days": {day: counts for (day,), counts in _clicks(rows, spec, DAY).items()},
        "groups": {name: _in_order(by_split) for name, by_split in groups.items()},
    }


def _in_order(by_split: dict[str, _Value]) -> dict[str, _Value]:
    """Earlier splits first, as they are read."""
    return {split: by_split[split] for split in (HISTORY, *SPLITS) if split in by_split}


def _clicks(rows: ir.Table, spec: ClickLogSpec, *by: str) -> dict[tuple, _Counts]:
    click = rows[spec.label.name]
    counted = rows.group_by(*by).agg(rows=rows.count(), clicks=click.sum().cast("int64"))
    return {
        tuple(row[key] for key in by): {
            "rows": row["rows"],
            "clicks": row["clicks"],
            "ctr": row["clicks"] / row["rows"],
        }
        for row in counted.order_by(by).to_pyarrow().to_pylist()
    }


def history_lengths(
    rows: ir.Table, histories: ClickHistories, spec: ClickLogSpec
) -> dict[str, dict[str, float]]:
    """Split -> mean length of the click histories, and the shares of empty and of full ones."""
    rows = rows.filter(rows[SPLIT] != HISTORY).select(ROW, SPLIT)
    joined = rows.left_join(histories.stretches.drop(SPLIT), ROW)
    lengths = joined.select(joined[SPLIT], length=joined[LENGTH].fill_null(0))
    described = lengths.group_by(SPLIT).agg(
        mean=lengths.length.mean(),
        empty=(lengths.length == 0).cast("int64").mean(),
        full=(lengths.length == spec.history.length).cast("int64").mean(),
    )
    return _in_order({row.pop(SPLIT): row for row in described.to_pyarrow().to_pylist()})


def distinct_ids(rows: ir.Table, spec: ClickLogSpec) -> dict[str, int]:
    """Number of different users and items, in all splits."""
    counts = rows.aggregate(
        users=rows[spec.user.name].nunique(), items=rows[spec.item.name].nunique()
    )
    return counts.to_pyarrow().to_pylist()[0]
