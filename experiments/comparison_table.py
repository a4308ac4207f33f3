"""A comparison as Markdown: for each world and split a table of each metric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from experiments.contrasts import AUC, GAUC, Contrast, Summary
from experiments.statistics import Interval

# What differences are shown in.
UNIT = 1e-4

_LEGEND = """\
Differences are to plain training, in units of 0.0001, with 95 % intervals: over seeds, paired; and
over users, paired, of scores averaged over seeds. `*`: both leave 0 out."""
_NAMES = {AUC: "click AUC", GAUC: "click GAUC", "log_loss": "log loss"}
_HEADER = ("backbone", "arm", "value", "difference", "over seeds", "over users")


def render(summaries: Sequence[Summary], title: str) -> str:
    """Markdown of all summaries.

    Args:
      summaries: those of a world and split stand together.
      title: of the document.
    """
    parts = [f"# {title}", _LEGEND]
    for (world, split), group in itertools.groupby(summaries, lambda s: (s.world, s.split)):
        block = list(group)
        parts.append(f"## {world}, {split}")
        for metric in block[0].means:
            parts += [f"### {metric_name(metric)}", _table(block, metric)]
    return "\n\n".join(parts) + "\n"


def metric_name(metric: str) -> str:
    """A metric as a reader calls it, such as "long_view AUC among clicks"."""
    for ending, name in (("_auc_among_clicks", "AUC among clicks"), ("_gauc", "GAUC")):
        if metric.endswith(ending):
            return f"{metric.removesuffix(ending)} {name}"
    return _NAMES.get(metric, metric.replace("_auc", " AUC"))


def _table(summaries: list[Summary], metric: str) -> str:
    has_recovered = any(metric in summary.recovered for summary in summaries)
    has_primary = any(not math.isnan(_p_adjusted(summary, metric)) for summary in summaries)
    header = [*_HEADER, *["recovered"] * has_recovered, *["p (Holm)"] * has_primary]
    rows = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for summary in summaries:
        row = [summary.backbone, summary.arm, f"{summary.means[metric]:.4f}"]
        row += _difference(summary.contrasts.get(metric))
        if has_recovered:
            row.append(_or_blank(summary.recovered.get(metric, math.nan), ".0%"))
        if has_primary:
            row.append(_or_blank(_p_adjusted(summary, metric), ".3f"))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _difference(contrast: Contrast | None) -> list[str]:
    if contrast is None:
        return ["", "", ""]
    mean = f"{contrast.over_seeds.mean / UNIT:+.1f}{'*' if contrast.holds else ''}"
    return [mean, _interval(contrast.over_seeds), _interval(contrast.over_users)]


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    return f"{interval.low / UNIT:+.1f} to {interval.high / UNIT:+.1f}"


def _p_adjusted(summary: Summary, metric: str) -> float:
    contrast = summary.contrasts.get(metric)
    return contrast.p_adjusted if contrast else math.nan


def _or_blank(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
