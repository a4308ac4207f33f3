"""The kinds of figures in a report; each is given numbers, and shows them as a table too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from experiments.reporting.blocks import Figure, Table, shortened
from experiments.reporting.svg import GRID, INK, MUTED, SERIES, drawing, to_svg, width_of
from experiments.statistics import Interval

_WIDTH = 4.7
_DASHES = ("-", "--", "-.", ":")
_MARKS = "os^DvP"

Curve = tuple[np.ndarray, np.ndarray]


def lines(
    name: str,
    title: str,
    alt: str,
    curves: Mapping[str, Curve],
    labels: tuple[str, str],
    table: Table,
    *,
    reference: float | None = None,
    marks: bool = False,
) -> Figure:
    """Curves over a common axis.

    Args:
      name: of the figure, unique in the page.
      title: of the figure.
      alt: what is to be seen.
      curves: name -> places and heights.
      labels: of the axes.
      table: the numbers.
      reference: height of a line to compare with.
      marks: whether points are marked.
    """
    with drawing(_WIDTH, 3.0) as figure:
        axis = figure.subplots()
        if reference is not None:
            axis.axhline(reference, color=MUTED, linewidth=1)
        for (label, (x, y)), style in zip(curves.items(), _styles(), strict=False):
            axis.plot(
                x,
                y,
                color=style[0],
                linestyle=style[1],
                marker=style[2] if marks else None,
                markersize=4,
                linewidth=1.8,
                label=shortened(label, 40),
            )
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=2 if len(curves) > 3 else len(curves))
        return _block(figure, name, title, alt, table)


def intervals(
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[Interval]],
    series: Sequence[str],
    label: str,
    table: Table,
    *,
    unit: float = 1.0,
    reference: float = 0.0,
) -> Figure:
    """Estimates with their intervals, a row for each name and a mark for each series.

    Args:
      name: of the figure, unique in the page.
      title: of the figure.
      alt: what is to be seen.
      rows: name -> an interval for each series.
      series: names.
      label: of the axis.
      table: the numbers.
      unit: what values are divided by.
      reference: value to compare with.
    """
    with drawing(_WIDTH, 1.1 + len(rows) * (0.16 + 0.14 * len(series))) as figure:
        axis = figure.subplots()
        axis.axvline(reference, color=MUTED, linewidth=1)
        axis.grid(False, axis="y")
        for place, found in enumerate(rows.values()):
            for number, (interval, style) in enumerate(zip(found, _styles(), strict=False)):
                height = place + (number - (len(series) - 1) / 2) * 0.7 / max(2, len(series))
                if math.isfinite(interval.low):
                    span = (interval.low / unit, interval.high / unit)
                    axis.hlines(height, *span, color=style[0], linewidth=2)
                axis.plot(
                    interval.mean / unit,
                    height,
                    color=style[0],
                    marker=style[2],
                    markersize=5,
                    linestyle="none",
                    label=shortened(series[number], 40) if place == 0 else None,
                )
        _name_rows(axis, list(rows))
        axis.set_xlabel(label)
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=2)
        return _block(figure, name, title, alt, table)


def bars(
    name: str,
    title: str,
    alt: str,
    values: Mapping[str, float],
    label: str,
    table: Table,
    *,
    reference: float | None = None,
    marked: Collection[str] = (),
) -> Figure:
    """A horizontal bar for each name.

    Args:
      name: of the figure, unique in the page.
      title: of the figure.
      alt: what is to be seen.
      values: name -> length.
      label: of the axis.
      table: the numbers.
      reference: length to compare with.
      marked: names whose bars stand out.
    """
    with drawing(_WIDTH, 0.8 + 0.24 * len(values)) as figure:
        axis = figure.subplots()
        axis.grid(False, axis="y")
        axis.barh(
            range(len(values)), list(values.values()), color=_fills(values, marked), height=0.7
        )
        if reference is not None:
            axis.axvline(reference, color=INK, linewidth=1.2, linestyle="--", zorder=3)
        _name_rows(axis, list(values))
        axis.set_xlabel(label)
        return _block(figure, name, title, alt, table)


def quantiles(
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[float]],
    label: str,
    table: Table,
) -> Figure:
    """Where the middle 80 and 50 % of values lie, and their median, for each name.

    Args:
      name: of the figure, unique in the page.
      title: of the figure.
      alt: what is to be seen.
      rows: name -> quantiles 0.1, 0.25, 0.5, 0.75, 0.9.
      label: of the axis.
      table: the numbers.
    """
    with drawing(_WIDTH, 0.8 + 0.3 * len(rows)) as figure:
        axis = figure.subplots()
        axis.grid(False, axis="y")
        for place, (low, lower, middle, upper, high) in enumerate(rows.values()):
            axis.hlines(place, low, high, color=SERIES[0], linewidth=1.5)
            axis.hlines(place, lower, upper, color=SERIES[0], linewidth=6)
            axis.plot(middle, place, color=SERIES[1], marker="D", markersize=6, linestyle="none")
        _name_rows(axis, list(rows))
        axis.set_xlabel(label)
        return _block(figure, name, title, alt, table)


def columns(
    name: str,
    title: str,
    alt: str,
    heights: Mapping[int, float],
    labels: tuple[str, str],
    table: Table,
    *,
    reference: float | None = None,
    marked: Collection[int] = (),
) -> Figure:
    """A column for each number, such as the hours of a day.

    Args:
      name: of the figure, unique in the page.
      title: of the figure.
      alt: what is to be seen.
      heights: number -> height.
      labels: of the axes.
      table: the numbers.
      reference: height to compare with.
      marked: numbers whose columns stand out.
    """
    with drawing(_WIDTH, 2.6) as figure:
        axis = figure.subplots()
        axis.grid(False, axis="x")
        axis.bar(list(heights), list(heights.values()), color=_fills(heights, marked), width=0.75)
        if reference is not None:
            axis.axhline(reference, color=INK, linewidth=1.2, linestyle="--", zorder=3)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        return _block(figure, name, title, alt, table)


def _styles() -> Iterator[tuple[str, str, str]]:
    """Colour, dashes and mark of each series."""
    for number in itertools.count():
        place = number % len(SERIES)
        yield SERIES[place], _DASHES[number % len(_DASHES)], _MARKS[place]


def _fills(names: Iterable[object], marked: Collection[object]) -> list[str]:
    return [SERIES[1] if name in marked else SERIES[0] for name in names]


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), [shortened(name) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_color(GRID)


def _block(figure: Drawing, name: str, title: str, alt: str, table: Table) -> Figure:
    return Figure(title, alt, to_svg(figure, name, title, alt), width_of(figure), table)
