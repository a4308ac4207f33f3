"""Sections on metrics: how good a model is, and whether it is calibrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from clsd_tf import metrics as exact
from experiments.comparison_table import metric_name
from experiments.reporting import charts
from experiments.reporting.blocks import (
    UNIT,
    Figure,
    Section,
    Table,
    count,
    decimal,
    difference,
    ends,
    share,
)
from experiments.reporting.judging import Judged
from experiments.statistics import Interval, reliability_curve

_NOT_COMPARED = Interval(float("nan"), float("nan"), float("nan"), float("nan"))
_HEAD = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log loss",
    "normalized_entropy": "NE",
    "predicted_over_observed": "predicted / observed",
    "calibration_error": "ECE",
}


def metrics_section(judged: Sequence[Judged], split: str, draws: int) -> Section:
    """Metrics of clicks and satisfaction, with differences to the plain run."""
    text = [
        f"Rows of the split “{split}”, which no model was trained on. AUC: the chance that a "
        "click is ranked above a non-click; GAUC: the same within users. NE: log loss relative to "
        "that of the click rate, below 1 is better. ECE: how far predicted click rates are off."
    ]
    compared = [each for each in judged if each.contrasts]
    if compared:
        base = next(each for each in judged if not each.contrasts)
        text.append(
            f"Differences are to “{base.facts.name}” in units of 0.0001, with 95 % intervals of a "
            f"paired bootstrap over users ({count(draws)} draws). A star: the interval leaves 0 "
            "out. One training of each says nothing about its seed's luck; clsd-compare does."
        )
    else:
        text.append(
            "Nothing is compared: none of the runs is plain, or there is no other beside it."
        )
    overall = Table(
        "Metrics of clicks",
        ("run", "method", "rows", *_HEAD.values()),
        [
            (
                each.facts.name,
                each.facts.config.method,
                count(each.metrics["click"]["rows"]),
                *(decimal(each.metrics["click"][name]) for name in _HEAD),
            )
            for each in judged
        ],
        text_columns=2,
    )
    tables = [overall, _by_group(judged)]
    if judged[0].metrics["satisfaction"]:
        tables.insert(1, _satisfaction(judged))
    figures = []
    if compared:
        tables.insert(0, _contrast_table(compared))
        figures = [_contrast_figure(compared), _group_figure(compared)]
    return Section("metrics", "Metrics", text, [f for f in figures if f is not None], tables)


def calibration_section(judged: Sequence[Judged]) -> Section:
    """Whether predicted click rates are those that are observed."""
    curves = {
        each.facts.name: reliability_curve(each.scored.labels, each.scored.scores)
        for each in judged
    }
    rows = [
        (name, str(place), decimal(p), decimal(o), decimal(o - p))
        for name, (predicted, observed) in curves.items()
        for place, (p, o) in enumerate(zip(predicted, observed, strict=True), start=1)
    ]
    heads = ("run", "tenth", "predicted", "observed", "observed - predicted")
    figures = [
        charts.lines(
            "reliability",
            "Reliability",
            "Observed minus predicted click rate by predicted click rate, a curve for each run. "
            "A calibrated model stays at 0.",
            {name: (p, o - p) for name, (p, o) in curves.items()},
            ("predicted click rate", "observed - predicted"),
            Table("Click rates in ten bins of equal size", heads, rows),
            reference=0.0,
            marks=True,
        ),
        _calibration_by_group(judged),
    ]
    text = [
        "Impressions are sorted by predicted click rate and cut into tenths; each point is one. "
        "Above 0 the model predicts too few clicks, below 0 too many.",
        *(
            f"“{each.facts.name}” predicts: {each.facts.student.result['outputs']}."
            for each in judged
        ),
    ]
    return Section("calibration", "Reliability and calibration", text, figures)


def _contrast_table(compared: Sequence[Judged]) -> Table:
    rows = [
        (
            each.facts.name,
            metric_name(name),
            difference(interval),
            ends(interval),
            decimal(interval.p, 3),
        )
        for each in compared
        for name, interval in each.contrasts.items()
    ]
    return Table(
        "Differences to the plain run, in units of 0.0001",
        ("run", "metric", "difference", "95 % interval", "p"),
        rows,
        text_columns=2,
    )


def _contrast_figure(compared: Sequence[Judged]) -> Figure:
    names = list(compared[0].contrasts)
    return charts.intervals(
        "differences",
        "Differences to the plain run",
        "For each metric the difference of a run to the plain run with its 95 % interval over "
        "users; to the right of 0 is better.",
        {
            metric_name(name): [each.contrasts.get(name, _NOT_COMPARED) for each in compared]
            for name in names
        },
        [each.facts.name for each in compared],
        "difference / 0.0001",
        _contrast_table(compared),
        unit=UNIT,
    )


def _group_figure(compared: Sequence[Judged]) -> Figure | None:
    groups = list(dict.fromkeys(name for each in compared for name in each.of_groups))
    if not groups:
        return None
    table = Table(
        "Difference of click AUC to the plain run by user group, in units of 0.0001",
        ("run", "group", "difference", "95 % interval", "p"),
        [
            (each.facts.name, name, difference(i), ends(i), decimal(i.p, 3))
            for each in compared
            for name, i in each.of_groups.items()
        ],
        text_columns=2,
    )
    return charts.intervals(
        "differences-of-groups",
        "Click AUC by user group",
        "For each user group the difference of a run's click AUC to that of the plain run, with "
        "its 95 % interval over users; to the right of 0 is better.",
        {name: [e.of_groups.get(name, _NOT_COMPARED) for e in compared] for name in groups},
        [each.facts.name for each in compared],
        "difference / 0.0001",
        table,
        unit=UNIT,
    )


def _by_group(judged: Sequence[Judged]) -> Table:
    heads = ("run", "group", "rows", "click rate", *_HEAD.values())
    rows = []
    for each in judged:
        for group, values in each.metrics["groups"].items():
            rows.append(
                (
                    each.facts.name,
                    group,
                    count(values["rows"]),
                    share(values["click_rate"]),
                    *(decimal(values[name]) for name in _HEAD),
                )
            )
    return Table("Metrics of clicks by user group", heads, rows, text_columns=2)


def _satisfaction(judged: Sequence[Judged]) -> Table:
    names = ("rate", "auc", "gauc", "rate_among_clicks", "auc_among_clicks")
    rows = [
        (each.facts.name, signal, *(decimal(values[name]) for name in names))
        for each in judged
        for signal, values in each.metrics["satisfaction"].items()
    ]
    heads = ("run", "signal", "rate", "AUC", "GAUC", "rate among clicks", "AUC among clicks")
    return Table("Post-click satisfaction, which trained no model", heads, rows, text_columns=2)


def _calibration_by_group(judged: Sequence[Judged]) -> Figure:
    names = list(judged[0].metrics["groups"])
    found: dict[str, list[Interval]] = {}
    for group, name in enumerate(names):
        found[name] = [_ratio(each, each.scored.groups == group) for each in judged]
    table = Table(
        "Predicted over observed clicks by user group",
        ("group", *(each.facts.name for each in judged)),
        [(name, *(decimal(i.mean, 3) for i in row)) for name, row in found.items()],
    )
    return charts.intervals(
        "calibration-of-groups",
        "Predicted over observed clicks by user group",
        "For each user group the number of predicted clicks over that of observed ones, a mark "
        "for each run; 1 is right, beyond it too many clicks are predicted.",
        found,
        [each.facts.name for each in judged],
        "predicted / observed",
        table,
        reference=1.0,
    )


def _ratio(each: Judged, chosen: np.ndarray) -> Interval:
    labels, scores = each.scored.labels[chosen], each.scored.scores[chosen]
    ratio = exact.predicted_over_observed(labels, scores)
    return dataclasses.replace(_NOT_COMPARED, mean=ratio)
