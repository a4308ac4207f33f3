"""Where low-confidence clicks come from: summaries of what `clsd-score` writes, by DuckDB.

A click is one of low confidence if it is among the lowest tenth of all. The share of such clicks
among those of an item, a category or an hour says whether they gather there.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from clsd_tf.features import ClickLogSpec
from data_pipeline.progress import steps
from experiments.reporting.blocks import NOTHING
from experiments.reporting.click_summary import (
    LOW_SHARE,
    MIN_CLICKS,
    NUM_BINS,
    QUANTILES,
    ClickSummary,
    ColumnConfidence,
    Example,
    GroupConfidence,
    ValueConfidence,
)

_DECILES = 10
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


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
