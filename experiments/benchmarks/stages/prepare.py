"""CSV -> shards, beside writers that build a message for each row."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_log
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings

_PROTO, _BEAM = "protos in Python", "Beam DirectRunner"
_READING = "DuckDB, reading alone"
_BARE = "DuckDB and NumPy, arrays alone"
_PEER_ROWS = 20_000  # their cost does not depend on the number, and is high


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One comparison; ours also checks, splits, learns vocabularies and joins histories.

    What reading the values alone costs is a floor: nothing else has been done by then. A program
    that makes such arrays of such a log, and nothing else, tells more.
    """
    del rates
    log = {"log": str(make_log(settings.data, settings.size))}
    few = min(_PEER_ROWS, settings.size.rows)
    places = {
        name: {**log, "rows": rows, "output_dir": str(settings.directory / "prepare" / name)}
        for name, rows in (
            ("own", settings.size.rows),
            ("proto", few),
            ("beam", few),
            ("bare", settings.size.rows),
        )
    }
    bare = {**places["bare"], "history": settings.size.history}
    yield Comparison(
        "prepare",
        "CSV to shards",
        (
            Contender(OURS, "own_prepare", places["own"]),
            Contender(_PROTO, "proto_prepare", places["proto"]),
            Contender(_BEAM, "beam_prepare", places["beam"], "beam"),
            Contender(_READING, "duckdb_read", {**log, "rows": settings.size.rows}),
            Contender(_BARE, "bare_prepare", bare),
        ),
        (
            Target(_PROTO, OURS, 20, "at least"),
            Target(_BEAM, OURS, 20, "at least"),
            Target(OURS, None, 150_000, "at least", "per_second"),
            Target(_PROTO, _READING),
            Target(_PROTO, _BARE),
            Target(OURS, _BARE),
        ),
        unit="row",
    )
