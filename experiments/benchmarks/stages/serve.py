"""Requests to the export of a taught model, beside the plain backbone exported the same way."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings

_PLAIN = "plain backbone"
_CANDIDATES = (1, 100, 500)


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One for each size of a request."""
    del rates
    prepared = str(make_prepared(settings.data, settings.size))
    for candidates in _CANDIDATES:
        contenders = []
        for name, taught in ((OURS, True), (_PLAIN, False)):
            place = settings.directory / "serve" / f"{'taught' if taught else 'plain'}_{candidates}"
            options = {
                "prepared": prepared,
                "output_dir": str(place),
                "candidates": candidates,
                "taught": taught,
            }
            contenders.append(Contender(name, "own_serve", options, steps=50 * settings.steps))
        targets = [Target(OURS, _PLAIN, 1.02, "at most", m) for m in ("cpu_us", "p50_ms")]
        if candidates == _CANDIDATES[-1]:
            targets.append(Target(OURS, None, 5.0, "at most", "p99_ms"))
        yield Comparison(
            "serve", f"{candidates} candidates", tuple(contenders), tuple(targets), unit="candidate"
        )
