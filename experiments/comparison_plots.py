"""Figures of a comparison, each as PNG and SVG."""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.comparison_table import UNIT, metric_name
from experiments.contrasts import Summary

# Okabe and Ito's palette, which colour-blind readers tell apart, and marks for print in grey.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
_COLUMNS = 3
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "clsd_tf",
    "figure.constrained_layout.use": True,
}


def plot_contrasts(summaries: Sequence[Summary], directory: pathlib.Path) -> list[pathlib.Path]:
    """Differences to plain training with both intervals, one figure for each world and split.

    Args:
      summaries: those of a world and split stand together.
      directory: of the figures.
    """
    paths = []
    for (world, split), group in itertools.groupby(summaries, lambda s: (s.world, s.split)):
        compared = [summary for summary in group if summary.contrasts]
        if compared:
            title = f"{world}, {split}: difference to plain in units of 0.0001"
            path = directory / f"differences-{world}-{split}"
            with matplotlib.rc_context(_STYLE):
                paths += _save(_figure_of_contrasts(compared, title), path)
    return paths


def plot_reliability(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, path: pathlib.Path
) -> list[pathlib.Path]:
    """Observed minus predicted click rate against the predicted one: how far each arm is off.

    Args:
      curves: arm -> predicted and observed rates, see `experiments.statistics.reliability_curve`.
      title: of the figure.
      path: without its ending.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.6))
        axis = figure.subplots()
        axis.axhline(0.0, color="0.6", linewidth=1)
        for (arm, (predicted, observed)), colour, mark in zip(
            curves.items(), itertools.cycle(COLOURS), itertools.cycle(MARKS)
        ):
            gap = observed - predicted
            axis.plot(predicted, gap, color=colour, marker=mark, markersize=4, label=arm)
        axis.set_xlabel("predicted click rate")
        axis.set_ylabel("observed - predicted")
        axis.set_title(title, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
        return _save(figure, path)


def _figure_of_contrasts(summaries: list[Summary], title: str) -> Figure:
    metrics = list(summaries[0].pairs)
    rows = math.ceil(len(metrics) / _COLUMNS)
    figure = Figure(figsize=(9.0, 1.0 + rows * (0.9 + 0.4 * len(summaries))))
    grid = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    axes = grid.flat[: len(metrics)]
    for axis in grid.flat[len(metrics) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes, metrics, strict=True):
        _draw_contrasts(axis, summaries, metric)
    axes[0].set_yticks(range(len(summaries)), [f"{s.arm}, {s.backbone}" for s in summaries])
    axes[0].set_ylim(len(summaries) - 0.5, -0.5)
    figure.suptitle(title, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_contrasts(axis: Axes, summaries: list[Summary], metric: str) -> None:
    axis.axvline(0.0, color="0.6", linewidth=1)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_title(metric_name(metric), fontsize=9)
    for place, summary in enumerate(summaries):
        contrast = summary.contrasts[metric]
        both = (
            ("95 % interval over seeds", contrast.over_seeds),
            ("95 % interval over users", contrast.over_users),
        )
        for number, (name, interval) in enumerate(both):
            height = place + (number - 0.5) * 0.3
            ends = (interval.low / UNIT, interval.high / UNIT)
            axis.hlines(height, *ends, color=COLOURS[1 + number], linewidth=2)
            axis.plot(
                interval.mean / UNIT,
                height,
                color=COLOURS[1 + number],
                marker=MARKS[number],
                linestyle="none",
                label=name if place == 0 else None,
            )


def _save(figure: Figure, path: pathlib.Path) -> list[pathlib.Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    for file in paths:
        figure.savefig(file, dpi=150)
    return paths
