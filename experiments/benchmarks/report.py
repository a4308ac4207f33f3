"""What a benchmark says: `results.json` and `table.md`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
from collections.abc import Sequence

from experiments.benchmarks.contenders import Target
from experiments.benchmarks.driver import Measured
from experiments.benchmarks.summaries import Outcome, Spread, digits

_REACHED = {True: "yes", False: "**no**", None: ""}
_COMMON = ("cpu_us", "per_second", "peak_mb")


def table(measured: Sequence[Measured]) -> str:
    """Markdown: what everyone cost, and what came of the targets."""
    lines = ["# Benchmark", "", *_machine(), ""]
    for one in measured:
        lines += [*_section(one), ""]
    return "\n".join(lines)


def metrics(measured: Sequence[Measured]) -> dict[str, object]:
    """The same for `results.json`, with every repetition."""
    return {
        "machine": {
            "processors": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "comparisons": [_entry(one) for one in measured],
    }


def write_table(measured: Sequence[Measured], path: pathlib.Path) -> None:
    """Writes the table, whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(table(measured), encoding="utf-8")
    os.replace(beside, path)


def _machine() -> list[str]:
    return [
        f"{os.cpu_count()} processors. Medians of repetitions that ran in turns, in parentheses "
        "the range. CPU: processor time of all threads and child processes. Ratios are those of "
        "the same round.",
    ]


def _section(one: Measured) -> list[str]:
    comparison = one.comparison
    others = sorted(
        {name for each in one.samples.values() for s in each for name in s} - set(_COMMON)
    )
    lines = [
        f"## {comparison.stage}: {comparison.case}",
        "",
        f"| | CPU us/{comparison.unit} | {comparison.unit}s/s | peak MiB |"
        + "".join(f" {name} |" for name in others),
        "|---" * (4 + len(others)) + "|",
    ]
    for contender in comparison.contenders:
        if contender.name in one.skipped:
            reason = one.skipped[contender.name].splitlines()[0]
            lines.append(f"| {contender.name} | skipped: {reason} |" + " |" * (2 + len(others)))
            continue
        cells = [_cell(one.samples[contender.name], n) for n in (*_COMMON, *others)]
        lines.append(f"| {contender.name} | " + " | ".join(cells) + " |")
    own = one.samples.get(comparison.contenders[0].name)
    for name, floor in comparison.floors.items():
        times = f", {Spread.of([s['cpu_us'] for s in own]).median / floor:.2f} times" if own else ""
        lines += ["", f"Floor, {name}: {digits(floor)} us{times}."]
    if one.outcomes:
        lines += ["", "| ratio | measured | reached |", "|---|---|---|"]
        lines += [f"| {o.target} | {o.ratio} | {_reached(o, one)} |" for o in one.outcomes]
    return lines


def _reached(outcome: Outcome, one: Measured) -> str:
    most = _at_the_floor(outcome.target, one)
    if outcome.reached is not False or most is None or most >= outcome.target.bound:
        return _REACHED[outcome.reached]
    return f"{_REACHED[False]}; {digits(most)} at the floor"


def _at_the_floor(target: Target, one: Measured) -> float | None:
    """The ratio to a peer that the first contender would have at its highest floor."""
    own = one.comparison.contenders[0].name
    if not one.comparison.floors or target.under != own or target.measure != "cpu_us":
        return None
    peer = Spread.of([s["cpu_us"] for s in one.samples[target.over]]).median
    return target.scale * peer / max(one.comparison.floors.values())


def _cell(samples: Sequence[dict[str, float]], name: str) -> str:
    values = [each[name] for each in samples if name in each]
    return str(Spread.of(values)) if values else ""


def _entry(one: Measured) -> dict[str, object]:
    return {
        "stage": one.comparison.stage,
        "case": one.comparison.case,
        "unit": one.comparison.unit,
        "floors": one.comparison.floors,
        "contenders": {
            contender.name: {
                "skipped": one.skipped.get(contender.name),
                "info": one.info.get(contender.name, {}),
                "samples": one.samples.get(contender.name, []),
            }
            for contender in one.comparison.contenders
        },
        "outcomes": [
            {
                **dataclasses.asdict(o),
                "description": str(o.target),
                "at_the_floor": _at_the_floor(o.target, one),
            }
            for o in one.outcomes
        ],
    }
