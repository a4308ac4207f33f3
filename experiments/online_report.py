"""What an online experiment showed: means by arm, differences with intervals, a figure."""

from __future__ import annotations

import io
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.statistics import paired_interval

# Arm -> what came of each day; one such mapping a seed.
Days = Sequence[Mapping]
Seed = Mapping[str, Days]

RATES = {
    "click_rate": "clicks",
    "satisfied_rate": "long views",
    "interested_rate": "clicks of interest",
    "interest": "interest in what is shown",
    "regret": "interest below the best choice",
}
_LESS_IS_BETTER = frozenset({"regret"})


def summarize(seeds: Sequence[Seed], true_rates: Sequence[float]) -> dict:
    """Means, differences to the first arm, drift and cost.

    Args:
      seeds: results; day 0 is the one that nobody had learned before.
      true_rates: noise rates of the groups.

    Returns:
      `arms`: arm -> mean of each rate over days and seeds, `train_seconds` a day, `drift` of
      confidence, `noise_rate_error`. `differences`: arm -> rate -> mean, interval, p, `verdict`;
      `before` is the difference on day 0, when all answered at random.
    """
    names = list(seeds[0])
    first = names[0]
    arms = {name: _arm([seed[name] for seed in seeds], true_rates) for name in names}
    differences = {
        name: {
            rate: _difference([seed[first] for seed in seeds], [seed[name] for seed in seeds], rate)
            for rate in RATES
        }
        for name in names[1:]
    }
    return {"baseline": first, "arms": arms, "differences": differences}


def render(summary: Mapping, title: str) -> str:
    """The summary as text."""
    text = io.StringIO()
    console = Console(file=text, width=120)
    arms, differences = summary["arms"], summary["differences"]
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in arms:
        table.add_column(name, justify="right")
    for name in differences:
        table.add_column(f"{name} - {summary['baseline']}", justify="right")
        table.add_column("", justify="left")
    for rate, words in RATES.items():
        cells = [f"{arm[rate]:.4f}" for arm in arms.values()]
        for of_arm in differences.values():
            found = of_arm[rate]
            cells += [_interval_text(found), str(found["verdict"])]
        table.add_row(words, *cells)
    for key, words, form in (
        ("train_seconds", "CPU seconds of training a day", "{:.1f}"),
        ("confidence_first", "confidence of clicks, first day", "{:.3f}"),
        ("confidence_last", "confidence of clicks, last day", "{:.3f}"),
        ("noise_rate_error", "error of noise rates, last day", "{:.3f}"),
    ):
        cells = ["" if math.isnan(arm[key]) else form.format(arm[key]) for arm in arms.values()]
        table.add_row(words, *cells, *["", ""] * len(differences))
    console.print(table)
    return text.getvalue().rstrip()


def plot(seeds: Sequence[Seed], path: pathlib.Path) -> pathlib.Path:
    """Rates day by day, mean over seeds, with the range of the seeds; needs the extra `report`."""
    from matplotlib.figure import Figure

    from experiments.comparison_plots import COLOURS

    shown = ("click_rate", "satisfied_rate", "interest", "confidence")
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    for axes, rate in zip(figure.subplots(2, 2).flat, shown, strict=True):
        for colour, name in zip(COLOURS, seeds[0], strict=False):
            values = np.array([[day[rate] for day in seed[name]] for seed in seeds], float)
            if np.isnan(values).all():
                continue
            days = [day["day"] for day in seeds[0][name]]
            axes.plot(days, values.mean(axis=0), color=colour, label=name)
            axes.fill_between(
                days, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0
            )
        axes.set_title(RATES.get(rate, "confidence of clicks in training"), fontsize=9)
        axes.set_xlabel("day")
    figure.axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _arm(seeds: Sequence[Days], true_rates: Sequence[float]) -> dict[str, float]:
    served = [day for seed in seeds for day in seed[1:]]
    means = {rate: float(np.mean([day[rate] for day in served])) for rate in RATES}
    trained = [day["train_seconds"] for seed in seeds for day in seed if day["train_seconds"]]
    confidences = [[d["confidence"] for d in s if not math.isnan(d["confidence"])] for s in seeds]
    known = [each for each in confidences if each]
    errors = [
        float(np.mean(np.abs(np.array(found) - true_rates)))
        for found in (_rates(seed, len(true_rates)) for seed in seeds)
        if found
    ]
    return {
        **means,
        "train_seconds": float(np.mean(trained)) if trained else math.nan,
        "confidence_first": float(np.mean([c[0] for c in known])) if known else math.nan,
        "confidence_last": float(np.mean([c[-1] for c in known])) if known else math.nan,
        "noise_rate_error": float(np.mean(errors)) if errors else math.nan,
    }


def _rates(days: Days, groups: int) -> list[float]:
    """Noise rates by group that the last training found; empty where it looks for none."""
    found = [day["noise_rates"] for day in days if day["noise_rates"]]
    return [found[-1][str(group)] for group in range(groups)] if found else []


def _difference(baseline: Sequence[Days], arm: Sequence[Days], rate: str) -> dict[str, object]:
    def mean(days: Days) -> float:
        return float(np.mean([day[rate] for day in days[1:]]))

    pairs = list(zip(arm, baseline, strict=True))
    interval = paired_interval([mean(ours) - mean(theirs) for ours, theirs in pairs])
    better = -1.0 if rate in _LESS_IS_BETTER else 1.0
    low, high = sorted((better * interval.low, better * interval.high))
    verdict = "helps" if low > 0 else "harms" if high < 0 else "undecided"
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p": interval.p,
        "before": float(np.mean([ours[0][rate] - theirs[0][rate] for ours, theirs in pairs])),
        "verdict": verdict,
    }


def _interval_text(found: Mapping[str, float]) -> str:
    if math.isnan(found["low"]):
        return f"{found['mean']:+.4f}"
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
