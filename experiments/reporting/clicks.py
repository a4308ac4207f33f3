"""Where low-confidence clicks come from: summaries of what `clsd-score` writes, by DuckDB.

A click is one of low confidence if it is among the lowest tenth of all. The share of such clicks
among those of an item, a category or an hour says whether they gather there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from clsd_tf.features import ClickLogSpec
from data_pipeline.progress import steps
from experiments.reporting.blocks import NOTHING

LOW_SHARE = 0.1
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
NUM_BINS = 40
# Values of a column with fewer clicks are not told apart.
MIN_CLICKS = 20
_DECILES = 10
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


@dataclasses.dataclass(frozen=True)
class GroupConfidence:
    """Confidence of the clicks of a user group.

    Attributes:
      name: of the group.
      clicks: how many.
      mean: of their confidence.
      quantiles: at `QUANTILES`.
      low_share: that is among the lowest tenth of all clicks.
      counts: of clicks in `NUM_BINS` equal bins from 0 to 1.
    """

    name: str
    clicks: int
    mean: float
    quantiles: tuple[float, ...]
    low_share: float
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ValueConfidence:
    """Confidence of the clicks that have one value in a column.

    Attributes:
      value: as text.
      clicks: how many.
      mean: of their confidence.
      low_share: that is among the lowest tenth of all clicks.
      at_least: lower end of the 95 % interval of `low_share` (Wilson).
    """

    value: str
    clicks: int
    mean: float
    low_share: float
    at_least: float


@dataclasses.dataclass(frozen=True)
class ColumnConfidence:
    """How the values of a column differ in confidence.

    Attributes:
      name: of the column.
      num_values: how many there are.
      explained: share of the variance of the confidence that lies between values, less what as
        many random values would get (epsilon squared).
      values: those with `MIN_CLICKS` clicks, by falling `at_least`.
    """

    name: str
    num_values: int
    explained: float
    values: tuple[ValueConfidence, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """A click: its columns as text, in the order of `ClickSummary.example_columns`."""

    confidence: float
    cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ClickSummary:
    """All that a report says of a run's clicks.

    Attributes:
      clicks: how many.
      threshold: confidence below which a click is among the lowest tenth.
      everyone: all groups together.
      groups: one by one.
      columns: by falling `explained`.
      hours: of the day, 0 to 23, that have clicks.
      utc_offset: of the hours.
      example_columns: what is said of an example.
      lowest: examples.
      highest: examples.
      satisfied: signal -> for each tenth of the clicks from low to high confidence its mean
        confidence and the share that satisfied.
    """

    clicks: int
    threshold: float
    everyone: GroupConfidence
    groups: tuple[GroupConfidence, ...]
    columns: tuple[ColumnConfidence, ...]
    hours: tuple[ValueConfidence, ...]
    utc_offset: float
    example_columns: tuple[str, ...]
    lowest: tuple[Example, ...]
    highest: tuple[Example, ...]
    satisfied: dict[str, list[tuple[float, float]]]


def summarize_clicks(
    path: pathlib.Path,
    spec: ClickLogSpec,
    group_names: Sequence[str],
    satisfaction: pa.Table | None = None,
    *,
    num_values: int = 12,
    num_examples: int = 10,
) -> ClickSummary:
    """Reads the confidences of a split (`experiments.click_confidences`).

    Args:
      path: of the Parquet file.
      spec: of the log.
      group_names: of the user groups, in their order.
      satisfaction: `_row` and signals of the clicks.
      num_values: of each column that are kept.
      num_examples: from either end.

    Raises:
      ValueError: there are no clicks.
    """
    order = {name: place for place, name in enumerate(group_names)}
    with steps() as begin, _clicks(path, spec) as engine:
        begin("Where low-confidence clicks come from")
        total, low = engine.sql(
            f"SELECT count(*), quantile_cont(confidence, {LOW_SHARE}) FROM clicks"
        ).fetchone()
        if not total:
            raise ValueError(
                f"{path} holds no clicks. Received: 0 rows. Expected: some; score a split that has "
                "clicks."
            )
        engine.execute(
            f"CREATE VIEW told AS SELECT *, (confidence <= {low!r})::DOUBLE AS is_low FROM clicks"
        )
        item = spec.item.name
        known = {row[0] for row in engine.sql("DESCRIBE clicks").fetchall()}
        categories = [
            column.name
            for column in spec.columns
            if column.role == "feature" and column.name in known
        ]
        found = [_column(engine, name, num_values) for name in (item, "_day", *categories)]
        shown = [item, "group", spec.timestamp.name, "teacher_logit", *categories[:6]]
        return ClickSummary(
            clicks=total,
            threshold=low,
            everyone=_groups(engine, "'all'")[0],
            groups=tuple(sorted(_groups(engine, '"group"'), key=lambda g: order.get(g.name, 0))),
            columns=tuple(sorted(found, key=lambda column: -column.explained)),
            hours=tuple(sorted(_values(engine, "_hour", 24), key=lambda v: int(v.value))),
            utc_offset=spec.split.utc_offset,
            example_columns=("confidence", *shown),
            lowest=_examples(engine, shown, "ASC", num_examples),
            highest=_examples(engine, shown, "DESC", num_examples),
            satisfied={} if satisfaction is None else _satisfied(engine, satisfaction),
        )


@contextlib.contextmanager
def _clicks(path: pathlib.Path, spec: ClickLogSpec) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with the view `clicks`, which has the hour of the day too."""
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.execute("SET enable_progress_bar = false")
        time = quoted(spec.timestamp.name)
        if spec.timestamp.type == "string":
            seconds = f"epoch(TRY_CAST({time} AS TIMESTAMPTZ))"
        else:
            seconds = f"({time} / {_PER_SECOND[spec.timestamp.unit]})"
        hour = f"(floor({seconds} / 3600 + {spec.split.utc_offset})::BIGINT % 24)"
        place = str(path).replace("'", "''")
        engine.execute(
            f"CREATE VIEW clicks AS SELECT *, {hour} AS _hour FROM read_parquet('{place}')"
        )
        yield engine


def quoted(name: str) -> str:
    """A name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def wilson_low(hits: float, trials: float) -> float:
    """Lower end of the 95 % interval of a share (Wilson 1927); 0 of no trials."""
    if not trials:
        return 0.0
    z = 1.959964
    rate = hits / trials
    middle = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, (middle - reach) / (1 + z * z / trials))


def explained_variance(
    counts: np.ndarray, means: np.ndarray, mean: float, total_squares: float
) -> float:
    """Share of the variance that lies between values, corrected for how many there are.

        epsilon^2 = 1 - (within / (clicks - values)) / (total / (clicks - 1))

    Source: Kelley, "An unbiased correlation ratio measure", 1935.

    Args:
      counts: clicks of each value, [values].
      means: of their confidence, [values].
      mean: of all.
      total_squares: sum over clicks of (confidence - mean)^2.

    Returns:
      At least 0; 0 where there is no variance, or a value for each click.
    """
    clicks, values = float(counts.sum()), len(counts)
    if total_squares <= 0.0 or clicks <= values:
        return 0.0
    within = total_squares - float(counts @ (means - mean) ** 2)
    return max(0.0, 1.0 - within / (clicks - values) * (clicks - 1.0) / total_squares)


def _groups(engine: duckdb.DuckDBPyConnection, by: str) -> list[GroupConfidence]:
    rows = engine.sql(f"""
        SELECT {by} AS name, count(*), avg(confidence),
          quantile_cont(confidence, {list(QUANTILES)}), avg(is_low)
        FROM told GROUP BY name ORDER BY name
    """).fetchall()
    counted: dict[str, list[int]] = {row[0]: [0] * NUM_BINS for row in rows}
    bins = engine.sql(f"""
        SELECT {by} AS name, least(floor(confidence * {NUM_BINS})::INT, {NUM_BINS - 1}), count(*)
        FROM told GROUP BY ALL
    """).fetchall()
    for name, place, clicks in bins:
        counted[name][place] = clicks
    return [
        GroupConfidence(name, clicks, mean, tuple(quantiles), low, tuple(counted[name]))
        for name, clicks, mean, quantiles, low in rows
    ]


def _column(engine: duckdb.DuckDBPyConnection, name: str, limit: int) -> ColumnConfidence:
    counted = engine.sql(
        f"SELECT count(*) AS n, avg(confidence) AS mean FROM told GROUP BY {quoted(name)}"
    ).fetchnumpy()
    mean, squares = engine.sql(
        "SELECT avg(confidence), var_pop(confidence) * count(*) FROM told"
    ).fetchone()
    explained = explained_variance(counted["n"], counted["mean"], mean, squares)
    values = _values(engine, name, limit)
    return ColumnConfidence(name, len(counted["n"]), explained, tuple(values))


def _values(engine: duckdb.DuckDBPyConnection, name: str, limit: int) -> list[ValueConfidence]:
    rows = engine.sql(f"""
        SELECT {quoted(name)}::VARCHAR AS value, count(*), avg(confidence), avg(is_low), sum(is_low)
        FROM told WHERE value IS NOT NULL GROUP BY value HAVING count(*) >= {MIN_CLICKS}
    """).fetchall()
    found = [
        ValueConfidence(value, clicks, mean, low, wilson_low(hits, clicks))
        for value, clicks, mean, low, hits in rows
    ]
    found.sort(key=lambda value: (-value.at_least, value.value))
    return found[:limit]


def _examples(
    engine: duckdb.DuckDBPyConnection, columns: Sequence[str], order: str, limit: int
) -> tuple[Example, ...]:
    listed = ", ".join(quoted(column) for column in columns)
    rows = engine.sql(
        f"SELECT confidence, {listed} FROM told ORDER BY confidence {order}, _row LIMIT {limit}"
    ).fetchall()
    return tuple(Example(row[0], tuple(_text(value) for value in row)) for row in rows)


def _text(value: object) -> str:
    if value is None:
        return NOTHING
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _satisfied(
    engine: duckdb.DuckDBPyConnection, satisfaction: pa.Table
) -> dict[str, list[tuple[float, float]]]:
    engine.register("signals", satisfaction)
    found = {}
    for name in satisfaction.column_names[1:]:
        signal = f"signals.{quoted(name)}"
        rows = engine.sql(f"""
            WITH known AS (
              SELECT confidence, {signal} AS signal,
                ntile({_DECILES}) OVER (ORDER BY confidence, told._row) AS tenth
              FROM told JOIN signals USING (_row) WHERE NOT isnan({signal})
            )
            SELECT avg(confidence), avg(signal), bool_and(signal IN (0, 1))
            FROM known GROUP BY tenth ORDER BY tenth
        """).fetchall()
        if rows and all(row[2] for row in rows):
            found[name] = [(confidence, share) for confidence, share, _ in rows]
    return found
