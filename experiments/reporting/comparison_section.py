"""The section on a comparison (`clsd-compare`): intervals over seeds beside those over users."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from experiments.comparison_table import metric_name
from experiments.reporting import charts
from experiments.reporting.blocks import NOTHING, UNIT, Figure, Section, Table, decimal, ends
from experiments.statistics import Interval

_HEADS = (
    "backbone",
    "arm",
    "metric",
    "value",
    "difference",
    "over seeds",
    "over users",
    "p (Holm)",
)


def comparison_section(results: Mapping[str, Mapping]) -> Section:
    """Arms against plain training over several seeds, for each world and split."""
    figures, tables = [], []
    summaries = results["metrics"]["summary"]
    grouped = itertools.groupby(summaries, lambda row: (row["world"], row["split"]))
    for number, ((world, split), block) in enumerate(grouped):
        rows = list(block)
        title = f"{world}, {split}"
        table = _table(title, rows)
        tables.append(table)
        if any(row["contrasts"] for row in rows):
            figures.append(_figure(number, title, rows, table))
    seeds = results["config"].get("num_seeds", 1)
    text = [
        f"{seeds} trainings of each arm. Differences are to plain training in units of 0.0001, "
        "with 95 % intervals over seeds, paired, and over users, of scores averaged over seeds. A "
        "star: both leave 0 out on the same side, which a claim needs."
    ]
    return Section("comparison", "Comparison over seeds", text, figures, tables)


def _intervals(row: Mapping, metric: str) -> tuple[Interval, Interval]:
    contrast = row["contrasts"][metric]
    return _interval(contrast["over_seeds"]), _interval(contrast["over_users"])


def _interval(values: Mapping[str, float | None]) -> Interval:
    """An interval as it was before JSON, which has no nan."""
    names = ("mean", "low", "high", "p")
    return Interval(*(math.nan if values[name] is None else values[name] for name in names))


def _table(title: str, rows: list[Mapping]) -> Table:
    cells = []
    for row in rows:
        for metric, value in row["means"].items():
            told = (NOTHING, NOTHING, NOTHING, NOTHING)
            if metric in row["contrasts"]:
                seeds, users = _intervals(row, metric)
                both = (seeds, users)
                holds = all(i.low > 0 for i in both) or all(i.high < 0 for i in both)
                mean = f"{seeds.mean / UNIT:+.1f}{'*' if holds else ''}"
                adjusted = row["contrasts"][metric].get("p_adjusted")
                told = (mean, ends(seeds), ends(users), decimal(adjusted, 3))
            cells.append((row["backbone"], row["arm"], metric_name(metric), decimal(value), *told))
    return Table(title, _HEADS, cells, text_columns=3)


def _figure(number: int, title: str, rows: list[Mapping], table: Table) -> Figure:
    compared = [row for row in rows if row["contrasts"]]
    metric = "auc"
    return charts.intervals(
        f"comparison-{number}",
        f"Click AUC against plain: {title}",
        "For each arm the difference of its click AUC to that of plain training, with 95 % "
        "intervals over seeds and over users; to the right of 0 is better.",
        {
            f"{row['arm']}, {row['backbone']}": _intervals(row, metric)
            for row in compared
            if metric in row["contrasts"]
        },
        ("over seeds", "over users"),
        "difference / 0.0001",
        table,
        unit=UNIT,
    )
