"""Requests to the export of a taught model, beside the plain backbone exported the same way."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates, dense_floor
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.stages.train import DEFAULT_SIZES
from experiments.benchmarks.step_floors import multiplications

_PLAIN = "plain backbone"
_DENSE, _ONE_USER = "clsd_tf, dense input", "clsd_tf, one user and many items"
_IN_TURN, _MIXED = "clsd_tf, operations in turn", "clsd_tf, mixed precision"
_CANDIDATES = (1, 100, 500)
_SIZES = {name: DEFAULT_SIZES[name] for name in ("units", "num_cross_layers")}


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One for each size of a request."""
    prepared = str(make_prepared(settings.data, settings.size))
    ways = {
        OURS: ("serving_default", True),
        _PLAIN: ("serving_default", False),
        _DENSE: ("predict_features", True),
        _ONE_USER: ("predict_candidates", True),
        _IN_TURN: ("serving_default", True),
        _MIXED: ("serving_default", True),
    }
    # A third of a training step's products: the way forward alone.
    width = DEFAULT_SIZES["dim"] * (settings.size.categorical + 1) + settings.size.numeric
    floor = dense_floor(multiplications("dcn_v2", width, DEFAULT_SIZES), rates) / 3
    for candidates in _CANDIDATES:
        contenders = []
        for number, (name, (signature, taught)) in enumerate(ways.items()):
            options = {
                "prepared": prepared,
                "output_dir": str(settings.directory / "serve" / f"{number}_{candidates}"),
                "candidates": candidates,
                "signature": signature,
                "taught": taught,
                "sizes": _SIZES,
                # As `tensorflow_model_server --tensorflow_inter_op_parallelism=1` runs them.
                "inter_op_threads": 1 if name == _IN_TURN else 0,
                "precision": "mixed_bfloat16" if name == _MIXED else "float32",
            }
            contenders.append(Contender(name, "own_serve", options, steps=12 * settings.steps))
        targets = [Target(OURS, _PLAIN, 1.02, "at most", m) for m in ("cpu_us", "p50_ms")]
        targets += [Target(OURS, other, measure="cpu_us") for other in (_DENSE, _ONE_USER, _MIXED)]
        if candidates == _CANDIDATES[-1]:
            targets += [
                Target(name, None, 5.0, "at most", "p99_ms")
                for name in (OURS, _ONE_USER, _IN_TURN, _MIXED)
            ]
        yield Comparison(
            "serve",
            f"{candidates} candidates",
            tuple(contenders),
            tuple(targets),
            unit="candidate",
            floors={"matrix products at the measured peak": floor},
        )
