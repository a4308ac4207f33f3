"""A comparison as Markdown: one table for each world and split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from experiments.contrasts import AUC, GAUC, Contrast, Summary
from experiments.statistics import Interval

_LEGEND = """\
Differences are to plain training, in units of 0.0001, with 95 % intervals: first over seeds,
paired; then over users, paired, of scores averaged over seeds. `*`: both leave 0 out."""
_NAMES = {AUC: "click AUC", GAUC: "click GAUC", "log_loss": "log loss"}
_UNIT = 1e-4


def render(summaries: Sequence[Summary], title: str) -> str:
    """Markdown of all summaries.

    Args:
      summaries: rows that belong together stand together.
      title: of the document.
    """
    parts = [f"# {title}", _LEGEND]
    for (world, split), group in itertools.groupby(summaries, lambda s: (s.world, s.split)):
        parts += [f"## {world}, {split}", _table(list(group))]
    return "\n\n".join(parts) + "\n"


def metric_name(metric: str) -> str:
    """A metric as a reader calls it, such as "long_view AUC among clicks"."""
    for ending, name in (("_auc_among_clicks", "AUC among clicks"), ("_gauc", "GAUC")):
        if metric.endswith(ending):
            return f"{metric.removesuffix(ending)} {name}"
    return _NAMES.get(metric, metric.replace("_auc", " AUC"))


def _table(summaries: list[Summary]) -> str:
    metrics = list(summaries[0].means)
    has_recovered = any(s.recovered for s in summaries)
    has_primary = any(not math.isnan(c.p_adjusted) for s in summaries for c in s.contrasts.values())
    header = ["backbone", "arm"]
    for metric in metrics:
        header += [metric_name(metric), "difference"]
    header += ["recovered AUC", "recovered GAUC"] * has_recovered + ["p (Holm)"] * has_primary
    rows = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for summary in summaries:
        row = [summary.backbone, summary.arm]
        for metric in metrics:
            row += [f"{summary.means[metric]:.4f}", _difference(summary.contrasts.get(metric))]
        if has_recovered:
            row += [_share(summary.recovered.get(name)) for name in (AUC, GAUC)]
        if has_primary:
            contrast = summary.contrasts.get(AUC)
            row.append(_p(contrast.p_adjusted if contrast else math.nan))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _difference(contrast: Contrast | None) -> str:
    if contrast is None:
        return ""
    intervals = [_interval(i) for i in (contrast.over_seeds, contrast.over_users)]
    star = "*" if contrast.holds else ""
    return " ".join([f"{contrast.over_seeds.mean / _UNIT:+.1f}{star}", *filter(None, intervals)])


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    return f"[{interval.low / _UNIT:+.1f}, {interval.high / _UNIT:+.1f}]"


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.0%}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
