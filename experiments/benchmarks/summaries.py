"""Medians and spreads of repetitions, ratios of what ran in turns, and growth with size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.benchmarks.contenders import Target

Samples = Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some repetitions."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError without values."""
        if not len(values):
            raise ValueError("A spread needs at least one repetition. Received: none.")
        return cls(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    def __str__(self) -> str:
        """Median and, in parentheses, the range; three digits count."""
        if self.least == self.greatest:
            return digits(self.median)
        return f"{digits(self.median)} ({digits(self.least)} to {digits(self.greatest)})"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A target and what was measured of it.

    Attributes:
      target: see `Target`.
      ratio: over repetitions, each of which divides what ran in the same round.
      reached: None for a ratio without a target.
    """

    target: Target
    ratio: Spread
    reached: bool | None


def sample(answer: Mapping[str, float]) -> dict[str, float]:
    """The measures of a repetition from a worker's answer.

    cpu_us: processor time an example, in microseconds; per_second: examples a second of wall time;
    peak_mb: most memory at a time, in MiB; and whatever else the worker measured.
    """
    rest = dict(answer)
    examples, wall = rest.pop("examples"), rest.pop("wall_seconds")
    return {
        "cpu_us": 1e6 * rest.pop("cpu_seconds") / examples,
        "per_second": examples / wall,
        "peak_mb": rest.pop("peak_bytes") / 2**20,
        **rest,
    }


def outcome(target: Target, samples: Mapping[str, Samples]) -> Outcome | None:
    """What came of a target; None where a contender was skipped.

    Args:
      target: to be judged by the median of its ratios.
      samples: of each contender, a sample for each round.
    """
    names = [name for name in (target.over, target.under) if name is not None]
    if not all(samples.get(name) for name in names):
        return None
    over, *under = ([each[target.measure] for each in samples[name]] for name in names)
    divided = zip(over, *(under or [[1.0] * len(over)]), strict=True)
    ratio = Spread.of([target.scale * a / b for a, b in divided])
    reached = {
        "none": None,
        "at least": ratio.median >= target.bound,
        "at most": ratio.median <= target.bound,
    }[target.kind]
    return Outcome(target, ratio, reached)


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Exponent k of cost = c * size^k, by least squares of the logarithms.

    Raises:
      ValueError: fewer than two different sizes, or one that is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(
            "Growth needs at least two different sizes, and sizes and costs above 0. Received: "
            f"sizes={list(sizes)}, costs={list(costs)}."
        )
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def digits(value: float) -> str:
    """A number with three digits that count, and without an exponent."""
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
