"""Figures of a comparison, each as PNG and SVG."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.comparison_table import metric_name
from experiments.contrasts import Summary

# Okabe and Ito's palette, which colour-blind readers tell apart, and marks for print in grey.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "clsd_tf",
    "figure.constrained_layout.use": True,
}


def plot_contrasts(summaries: Sequence[Summary], directory: pathlib.Path) -> list[pathlib.Path]:
    """Differences to plain training with both intervals, one figure for each world and split."""
    paths = []
    for (world, split), group in itertools.groupby(summaries, lambda s: (s.world, s.split)):
        compared = [summary for summary in group if summary.contrasts]
        if compared:
            metrics = [m for m in compared[0].contrasts if m in compared[0].pairs]
            with matplotlib.rc_context(_STYLE):
                figure = Figure(figsize=(1.6 + 2.8 * len(metrics), 1.3 + 0.42 * len(compared)))
                axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)
                for axis, metric in zip(axes[0], metrics, strict=True):
                    _draw_contrasts(axis, compared, metric)
                axes[0, 0].set_yticks(
                    range(len(compared)), [f"{s.arm}, {s.backbone}" for s in compared]
                )
                axes[0, 0].invert_yaxis()
                figure.suptitle(f"{world}, {split}: difference to plain, 95 % intervals")
                handles, labels = axes[0, 0].get_legend_handles_labels()
                figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
                paths += _save(figure, directory / f"differences-{world}-{split}")
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


def _draw_contrasts(axis: Axes, summaries: list[Summary], metric: str) -> None:
    axis.axvline(0.0, color="0.6", linewidth=1)
    for place, summary in enumerate(summaries):
        contrast = summary.contrasts[metric]
        styles = (("over seeds", 0, -0.13), ("over users", 1, 0.13))
        for (name, number, shift), interval in zip(
            styles, (contrast.over_seeds, contrast.over_users), strict=True
        ):
            colour, height = COLOURS[1 + number], place + shift
            axis.hlines(height, interval.low, interval.high, color=colour, linewidth=2)
            axis.plot(
                interval.mean,
                height,
                color=colour,
                marker=MARKS[number],
                linestyle="none",
                label=name if place == 0 else None,
            )
    axis.set_title(metric_name(metric), fontsize=9)
    axis.ticklabel_format(axis="x", style="sci", scilimits=(-3, -3), useMathText=True)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)


def _save(figure: Figure, path: pathlib.Path) -> list[pathlib.Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    for file in paths:
        figure.savefig(file, dpi=150)
    return paths
