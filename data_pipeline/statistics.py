"""What the encoding learns: vocabularies, quantile boundaries and moments of the training split.

Each depends on the set of training rows alone: not on their order, on labels, or on the number of
threads. A column that shares the encoding of another one (its owner) adds nothing to it: tokens are
those of the owner's column.
"""

from __future__ import annotations

import dataclasses
import pathlib

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends import BaseBackend

from clsd_tf.encoding import EncodingTables, vocabulary_path
from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.column_values import as_float32, column_values, present_value
from data_pipeline.exact_moments import moments
from data_pipeline.splits import SPLIT
from data_pipeline.streaming import record_batches

_LINE_BREAKS = ("\n", "\r")
BY_COUNT = (ibis.desc("count"), "token")


@dataclasses.dataclass
class LearnedTables:
    """Tables of the encoding, and what did not get into them.

    Attributes:
      encoding: as saved in `encoding.json`.
      tokens_with_line_breaks: column -> tokens left out because a line of a file cannot hold them.
      new_tokens: column -> tokens by which the vocabulary of an earlier data set has grown.
    """

    encoding: EncodingTables
    tokens_with_line_breaks: dict[str, int] = dataclasses.field(default_factory=dict)
    new_tokens: dict[str, int] = dataclasses.field(default_factory=dict)


def learn_tables(
    engine: BaseBackend, rows: ir.Table, spec: ClickLogSpec, directory: str | pathlib.Path
) -> LearnedTables:
    """Learns what the encoded columns need and writes `encoding.json` and `vocab/<column>.txt`.

    Args:
      engine: that holds `rows`.
      rows: with `_split` and all columns that own an encoding.
      spec: of the log.
      directory: of the data set.
    """
    train = rows.filter(rows[SPLIT] == "train")
    learned = LearnedTables(EncodingTables())
    owners = {column.name: column for column in map(spec.owner, spec.encoded_columns)}
    for name, column in owners.items():
        values = column_values(train, column)
        if column.encoding == "vocabulary":
            _learn_vocabulary(engine, values, column, directory, learned)
        elif column.quantiles is not None:
            learned.encoding.boundaries[name] = quantile_boundaries(values, column)
    standardised = [c for c in owners.values() if c.scaling in ("standard", "log_standard")]
    found = moments(train, {column.name: scaled(train, column) for column in standardised})
    learned.encoding.moments |= {name: (m.mean, m.deviation) for name, m in found.items()}
    learned.encoding.save(directory)
    return learned


def _learn_vocabulary(
    engine: BaseBackend,
    values: ir.Table,
    column: ColumnSpec,
    directory: str | pathlib.Path,
    learned: LearnedTables,
) -> None:
    ordered = frequent_tokens(values, column, learned)
    if column.max_size is not None:
        ordered = ordered.limit(column.max_size)
    path = vocabulary_path(directory, column.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    in_order = ordered.order_by(list(BY_COUNT)).select("token")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in record_batches(engine, in_order):
            file.write(_lines(batch.column(0)))
            size += batch.num_rows
    learned.encoding.vocabulary_sizes[column.name] = size


def _lines(tokens: pa.Array) -> str:
    """Tokens as text, one a line; a Python object for each would cost as much as counting them."""
    every = pa.ListArray.from_arrays([0, len(tokens)], tokens.cast(pa.string()))
    return pc.binary_join(every, "\n")[0].as_py() + "\n"


def frequent_tokens(values: ir.Table, column: ColumnSpec, learned: LearnedTables) -> ir.Table:
    """Tokens (`token`, `count`) by falling count; of equal count by number or code points.

    Those that no line of a file can hold are left out, and counted in `learned`.
    """
    counts = values.group_by(token=values.value).agg(count=values.count())
    frequent = counts.filter(counts["count"] >= column.min_count)
    if column.type == "string":
        broken = ibis.or_(*(frequent.token.contains(mark) for mark in _LINE_BREAKS))
        left_out = int(frequent.filter(broken).count().to_pyarrow().as_py())
        if left_out:
            learned.tokens_with_line_breaks[column.name] = left_out
        frequent = frequent.filter(~broken)
    return frequent.order_by(list(BY_COUNT))


def quantile_boundaries(values: ir.Table, column: ColumnSpec) -> list[float]:
    """Strictly rising float32 boundaries that cut `value` into at most `quantiles` buckets.

    Boundary j of q is the value at place floor(j * n / q), from 0, of the n values in order: a
    value that occurs, never one between two. A boundary at the smallest value would leave the
    bucket below it empty, and is dropped.
    """
    values = values.select(value=as_float32(values.value, column))
    total = int(values.count().to_pyarrow().as_py())
    # Counts of distinct values need less memory than the sorted values, and can be stored on disk.
    counts = values.group_by("value").agg(count=values.count())
    upto = counts["count"].sum().over(ibis.cumulative_window(order_by=counts.value)).cast("int64")
    counts = counts.mutate(upto=upto)
    places = {j * total // column.quantiles for j in range(1, column.quantiles)}
    starts = counts.upto - counts["count"]
    chosen = ibis.or_(*((starts <= place) & (place < counts.upto) for place in sorted(places)))
    found = counts.filter(chosen & (starts > 0)).order_by("value")
    return found.to_pyarrow()["value"].to_pylist()


def scaled(rows: ir.Table, column: ColumnSpec) -> ir.FloatingValue:
    """What is standardised: values as float64, after log scaling; NULL where there is none."""
    value = as_float32(present_value(rows, column), column).cast("float64")
    if column.scaling == "log_standard":
        value = value.sign() * (value.abs() + 1).ln()
    return value
