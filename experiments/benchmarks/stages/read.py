"""Shards -> shuffled tensors ready for `fit`, beside other readers of the same rows."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_arrays, make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates, read_floor
from experiments.benchmarks.settings import Settings

_ROW = "clsd_tf, row layout"
_BATCHED, _PARQUET, _GRAIN = "make_batched_features_dataset", "pyarrow", "grain"
_PARQUET_CHECKED = "pyarrow, checksums"  # as records of shards are
_BY_ITSELF, _THROUGH = "each by itself", "through the service"
_ROW_STEPS_SHARE = 4  # a row layout is slower by more; a run has to be longer than its buffers


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """Readers beside each other; then trainers that share a reading, and trainers that do not."""
    size = settings.size
    columnar = {"prepared": str(make_prepared(settings.data, size))}
    row = {"prepared": str(make_prepared(settings.data, size, "row"))}
    arrays = {"arrays": str(make_arrays(settings.data, size))}
    batch = {"batch_size": settings.batch_size}
    steps = 5 * settings.steps
    few = max(1, steps // _ROW_STEPS_SHARE)
    row_bytes = 4 * (size.categorical + size.numeric + size.history + 3) + 8
    yield Comparison(
        "read",
        f"batches of {settings.batch_size}",
        (
            Contender(OURS, "own_read", {**columnar, **batch}, steps=steps),
            Contender(_ROW, "own_read", {**row, **batch}, steps=few),
            Contender(_BATCHED, "batched_features_read", {**row, **arrays, **batch}, steps=few),
            Contender(_PARQUET, "parquet_read", {**arrays, **batch}, steps=steps),
            Contender(
                _PARQUET_CHECKED,
                "parquet_read",
                {**arrays, **batch, "checked": True},
                steps=steps,
            ),
            Contender(_GRAIN, "grain_read", {**arrays, **batch}, "grain", steps=steps),
        ),
        (
            Target(_BATCHED, OURS, 20, "at least"),
            Target(_BATCHED, _ROW, 1.5, "at least"),
            Target(_PARQUET, OURS, 1.5, "at least"),
            Target(_PARQUET_CHECKED, OURS),
            Target(_GRAIN, OURS, 1.5, "at least"),
        ),
        floors={"two copies of a row": read_floor(row_bytes, rates)},
    )
    for trainers in (1, 2, 4):
        yield _shared({**columnar, **batch}, trainers, steps)
    yield _shared({**row, **batch}, 2, few, layout="row layout, ")


def _shared(
    options: dict[str, object], trainers: int, steps: int, *, layout: str = ""
) -> Comparison:
    """Trainers at a time: each by itself, and all through one service, which counts too."""
    contenders = [
        Contender(
            name,
            "service_read",
            {**options, "trainers": trainers, "through_service": name == _THROUGH},
            steps=steps,
        )
        for name in (_BY_ITSELF, _THROUGH)
    ]
    case = f"input service, {layout}trainers: {trainers}"
    return Comparison("read", case, tuple(contenders), (Target(_THROUGH, _BY_ITSELF),))
