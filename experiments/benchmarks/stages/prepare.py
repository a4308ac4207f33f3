"""CSV -> shards, beside programs that build a message for each row.

Two of them read, convert and write, and nothing else. The other two do what has to be done for such
a log to be trained on: they tell bad rows apart, drop what is there twice, split, make vocabularies
and scales of the training rows, and find histories. Their rows are those of ours: there is a test
of the one in plain Python, whose functions the one in Beam calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_log
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings

_PROTO, _BEAM = "protos in Python, conversion alone", "Beam DirectRunner, conversion alone"
_PROTO_JOB, _BEAM_JOB = "protos in Python, the same rows", "Beam DirectRunner, the same rows"
_READING = "DuckDB, reading alone"
_BARE = "DuckDB and NumPy, arrays alone"
_PEER_ROWS = 20_000  # their cost does not depend on the number, and is high


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One comparison; ours also checks, splits, learns vocabularies and joins histories.

    What reading the values alone costs is a floor: nothing else has been done by then. A program
    that makes such arrays of such a log, and nothing else, tells more.
    """
    del rates
    made = str(make_log(settings.data, settings.size))
    log = {"log": made, "history": settings.size.history}
    few = min(_PEER_ROWS, settings.size.rows)
    places = {
        name: {**log, "rows": rows, "output_dir": str(settings.directory / "prepare" / name)}
        for name, rows in (
            ("own", settings.size.rows),
            ("proto", few),
            ("beam", few),
            ("proto_job", few),
            ("beam_job", few),
            ("bare", settings.size.rows),
        )
    }
    yield Comparison(
        "prepare",
        "CSV to shards",
        (
            Contender(OURS, "own_prepare", places["own"]),
            Contender(_PROTO, "proto_prepare", places["proto"]),
            Contender(_BEAM, "beam_prepare", places["beam"], "beam"),
            Contender(_PROTO_JOB, "proto_pipeline", places["proto_job"]),
            Contender(_BEAM_JOB, "beam_pipeline", places["beam_job"], "beam"),
            Contender(_READING, "duckdb_read", {**log, "rows": settings.size.rows}),
            Contender(_BARE, "bare_prepare", places["bare"]),
        ),
        (
            Target(_PROTO, OURS, 20, "at least"),
            Target(_BEAM, OURS, 20, "at least"),
            Target(_PROTO_JOB, OURS, 20, "at least"),
            Target(_BEAM_JOB, OURS, 20, "at least"),
            Target(OURS, None, 150_000, "at least", "per_second"),
            Target(_PROTO, _READING),
            Target(_PROTO, _BARE),
            Target(OURS, _BARE),
        ),
        unit="row",
    )
