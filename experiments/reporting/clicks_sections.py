"""Sections on the confidence of clicks: its distribution, and where low-confidence clicks are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.reporting import charts
from experiments.reporting.blocks import (
    NOTHING,
    Figure,
    Section,
    Table,
    count,
    decimal,
    share,
    shortened,
)
from experiments.reporting.click_summary import (
    MIN_CLICKS,
    NUM_BINS,
    ClickSummary,
    ColumnConfidence,
    Example,
    GroupConfidence,
    ValueConfidence,
)
from experiments.reporting.runs import RunFacts

# Overlaid curves beyond so many groups cannot be told apart.
_MAX_CURVES = 6
# Columns that get a figure; the table lists all.
_MAX_FIGURES = 6


def confidence_section(number: int, facts: RunFacts, summary: ClickSummary) -> Section:
    """How confidence is distributed, overall and per group.

    Args:
      number: of the run, which makes names unique.
      facts: of the run.
      summary: of its clicks.
    """
    name = f"confidence-{number}"
    rows = [_group_row(g) for g in (summary.everyone, *summary.groups)]
    table = Table(
        "Confidence of clicks by user group",
        ("group", "clicks", "mean", "10 %", "25 %", "median", "75 %", "90 %", "low-confidence"),
        rows,
    )
    figures = [
        _histogram(name, summary),
        charts.quantiles(
            f"{name}-quantiles",
            "Confidence by user group",
            "For each user group where the middle 80 % (thin) and 50 % (thick) of its clicks lie, "
            "and their median (diamond).",
            {group.name: group.quantiles for group in summary.groups},
            "confidence",
            table,
        ),
    ]
    if summary.satisfied:
        figures.append(_satisfied(name, summary))
    tables = [table]
    parameters = facts.student.result.get("confidence", [])
    if parameters:
        heads = list(dict.fromkeys(key for row in parameters for key in row))
        cells = [tuple(_parameter(row.get(head)) for head in heads) for row in parameters]
        shown = [head.replace("_", " ") for head in heads]
        tables.append(Table("The confidence function by user group", shown, cells))
    text = [
        f"What the student of “{facts.name}” was told of its {count(summary.clicks)} training "
        "clicks: 1 is a click that is believed, 0 one that is not. It is an estimate without "
        "labels; a teacher that believes in clickbait gives it high confidence."
    ]
    if summary.satisfied:
        text.append(
            "If confidence is worth something, clicks of high confidence satisfy more often: the "
            "curves of satisfaction rise."
        )
    return Section(name, f"Confidence: {facts.name}", text, figures, tables)


def origins_section(number: int, facts: RunFacts, summary: ClickSummary) -> Section:
    """Which items, categories, days and hours gather low-confidence clicks, with examples."""
    name = f"origins-{number}"
    ranking = Table(
        "How far columns tell confidence apart",
        ("column", "values", "explained variance"),
        [(_title(c), count(c.num_values), share(c.explained)) for c in summary.columns],
    )
    told = [column for column in summary.columns if len(column.values) > 1]
    figures = [
        _column(f"{name}-{place}", column, summary)
        for place, column in enumerate(told[:_MAX_FIGURES])
    ]
    if len(summary.hours) > 1:
        figures.append(_hours(name, summary))
    rest = [
        Table(
            f"Low-confidence clicks by {_title(column)}",
            _VALUE_HEADS,
            [_value_row(value) for value in column.values],
            is_folded=True,
        )
        for column in told[_MAX_FIGURES:]
    ]
    tables = [
        ranking,
        *rest,
        _examples("The clicks of the lowest confidence", summary, summary.lowest),
        _examples("The clicks of the highest confidence", summary, summary.highest),
    ]
    text = [
        "A click is called one of low confidence if it is among the lowest tenth: at most "
        f"{decimal(summary.threshold, 3)}. Where their share is far above "
        f"{share(summary.everyone.low_share)}, such clicks gather. Values with fewer than "
        f"{MIN_CLICKS} clicks are left out, others are ordered by the lower end of the share's "
        "95 % interval, so that few clicks do not come first by luck. Orange: that end lies above "
        "the share of all.",
        "Explained variance: share of the variance of confidence that lies between the values of "
        "a column, corrected for their number (epsilon squared). Users are not listed.",
    ]
    return Section(name, f"Where low-confidence clicks are: {facts.name}", text, figures, tables)


_VALUE_HEADS = ("value", "clicks", "mean confidence", "low-confidence", "at least")


def _group_row(group: GroupConfidence) -> tuple[str, ...]:
    values = (decimal(value, 3) for value in (group.mean, *group.quantiles))
    return (group.name, count(group.clicks), *values, share(group.low_share))


def _value_row(value: ValueConfidence) -> tuple[str, ...]:
    shares = (share(value.low_share), share(value.at_least))
    return (shortened(value.value, 60), count(value.clicks), decimal(value.mean, 3), *shares)


def _parameter(value: object) -> str:
    if isinstance(value, float):
        return count(value) if value >= 1000 else decimal(value, 3)
    return NOTHING if value is None else str(value)


def _title(column: ColumnConfidence) -> str:
    """What a column is called: `_day`, which is the pipeline's own, simply day."""
    return column.name.lstrip("_")


def _histogram(name: str, summary: ClickSummary) -> Figure:
    groups = summary.groups if len(summary.groups) <= _MAX_CURVES else (summary.everyone,)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    shares = {g.name: np.array(g.counts) / g.clicks for g in groups}
    first = max(0, min(int(np.flatnonzero(values)[0]) for values in shares.values()) - 1)
    table = Table(
        "Share of clicks by confidence",
        ("confidence from", *shares),
        [
            (decimal(edges[place], 3), *(share(values[place]) for values in shares.values()))
            for place in range(NUM_BINS)
        ],
        text_columns=0,
    )
    return charts.lines(
        f"{name}-histogram",
        "Distribution of confidence",
        "Share of the clicks of a user group that have at most some confidence, a rising curve "
        "for each group. Where a curve is steep, many clicks are.",
        {
            group: (edges[first:], np.append(0.0, np.cumsum(values))[first:])
            for group, values in shares.items()
        },
        ("confidence", "share of clicks up to it"),
        table,
    )


def _satisfied(name: str, summary: ClickSummary) -> Figure:
    curves = {signal: tuple(np.array(points).T) for signal, points in summary.satisfied.items()}
    rows = [
        (signal, str(place), decimal(confidence, 3), share(satisfied))
        for signal, points in summary.satisfied.items()
        for place, (confidence, satisfied) in enumerate(points, start=1)
    ]
    return charts.lines(
        f"{name}-satisfied",
        "Do confident clicks satisfy?",
        "Share of clicks that were followed by satisfaction, by tenths of confidence, a curve for "
        "each post-click signal; it should rise.",
        curves,
        ("mean confidence of a tenth", "share satisfied"),
        Table(
            "Satisfaction by tenths of confidence",
            ("signal", "tenth", "mean confidence", "satisfied"),
            rows,
        ),
        marks=True,
    )


def _column(name: str, column: ColumnConfidence, summary: ClickSummary) -> Figure:
    rows = [_value_row(value) for value in column.values]
    return charts.bars(
        name,
        f"Low-confidence clicks by {shortened(_title(column), 40)}",
        f"Share of low-confidence clicks for the values of {_title(column)} in which they gather "
        "most; the dashed line is the share among all clicks. The other colour: the interval of "
        "the share lies above it.",
        {value.value: value.low_share for value in column.values},
        "share of low-confidence clicks",
        Table(f"Low-confidence clicks by {_title(column)}", _VALUE_HEADS, rows),
        reference=summary.everyone.low_share,
        marked={value.value for value in _gathering(column.values, summary)},
    )


def _gathering(values: Sequence[ValueConfidence], summary: ClickSummary) -> list[ValueConfidence]:
    """Values in which low-confidence clicks gather beyond chance."""
    return [value for value in values if value.at_least > summary.everyone.low_share]


def _hours(name: str, summary: ClickSummary) -> Figure:
    zone = f"UTC{summary.utc_offset:+g}" if summary.utc_offset else "UTC"
    return charts.columns(
        f"{name}-hours",
        "Low-confidence clicks by hour of the day",
        f"Share of low-confidence clicks for each hour of the day ({zone}); the dashed line is "
        "the share among all clicks. The other colour: the interval of the share lies above it.",
        {int(value.value): value.low_share for value in summary.hours},
        (f"hour of the day, {zone}", "share of low-confidence"),
        Table(
            f"Low-confidence clicks by hour of the day, {zone}",
            ("hour", *_VALUE_HEADS[1:]),
            [_value_row(value) for value in summary.hours],
        ),
        reference=summary.everyone.low_share,
        marked={int(value.value) for value in _gathering(summary.hours, summary)},
    )


def _examples(caption: str, summary: ClickSummary, examples: Sequence[Example]) -> Table:
    rows = [tuple(shortened(cell, 60) for cell in example.cells) for example in examples]
    columns = [column.replace("_", " ").strip() for column in summary.example_columns]
    return Table(caption, columns, rows, text_columns=len(columns))
