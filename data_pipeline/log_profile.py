"""Files of an unknown log -> roles of its columns, and what speaks for each of them."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from clsd_tf.features import ColumnSpec
from data_pipeline.column_profile import (
    auc_alone,
    is_constant_within,
    profile,
    shares_after_click,
)
from data_pipeline.input_files import InputFiles
from data_pipeline.log_sample import (
    LogSample,
    RawType,
    distinct_counts,
    raw_types,
    read_sample,
    times_of,
    typed_values,
)
from data_pipeline.spec_findings import Evidence
from data_pipeline.spec_roles import Named, Roles, find_roles, words_of

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


@dataclasses.dataclass(frozen=True)
class LogProfile:
    """An unknown log.

    Attributes:
      files: that it was read from.
      sample: of its rows.
      roles: of its columns.
      evidence: by column.
      days: day ("2022-05-04", or in the values of the day column) -> rows of the sample; in order.
      click_rate: of the sample; nan without a label.
    """

    files: InputFiles
    sample: LogSample
    roles: Roles
    evidence: dict[str, Evidence]
    days: dict[str, int]
    click_rate: float


def profile_log(
    engine: Backend, files: InputFiles, rows: int, given: Mapping[str, str | None]
) -> LogProfile:
    """Looks at about `rows` rows of a log.

    Args:
      engine: to read it with.
      files: of one format.
      rows: of the sample.
      given: role ("label", "user", "item", "timestamp", "weight", "day") -> column, where it is
        known; None or absent: found by name and values.

    Raises:
      ValueError: files cannot be read, or a given column is not in them.
    """
    sample = read_sample(engine, files, rows)
    types = raw_types(sample)
    values = typed_values(sample, {name: raw_spec(name, raw) for name, raw in types.items()})
    distinct = distinct_counts(sample)
    named = {
        name: Named(
            profile(name, raw.type, raw.is_list, values[name], distinct[name], sample.rows), raw
        )
        for name, raw in types.items()
    }
    roles = find_roles(named.values(), given)
    clicks = None
    if roles.label:
        clicks = clicks_of(roles.label, values[roles.label], roles.positive_from)
    users = values[roles.user] if roles.user else None
    items = values[roles.item] if roles.item else None
    evidence = {
        name: evidence_of(column, values[name], clicks, users, items)
        for name, column in named.items()
    }
    return LogProfile(
        files=files,
        sample=sample,
        roles=roles,
        evidence=evidence,
        days=_days(sample, roles, values),
        click_rate=float(np.mean(clicks)) if clicks is not None else float("nan"),
    )


def raw_spec(name: str, raw: RawType, length: int = 1) -> ColumnSpec:
    """What reads the values of a raw column as they look like."""
    if not raw.is_list:
        return ColumnSpec(name=name, type=raw.type, role="ignore")
    separator = raw.separator or " "
    return ColumnSpec(
        name=name, type=raw.type, role="ignore", max_length=length, separator=separator
    )


def clicks_of(name: str, values: pa.ChunkedArray, positive_from: float | None) -> np.ndarray:
    """Clicks of label `name` as float `[rows]`, 1 where there is one; a missing label is none.

    Raises:
      ValueError: most values are no numbers.
    """
    if pa.types.is_string(values.type):
        values = _numbers_in(name, values)
    numbers = values.cast(pa.float64()).fill_null(0.0).to_numpy()
    return (numbers >= (1 if positive_from is None else positive_from)).astype(np.float64)


def _numbers_in(name: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers that are written as text, null where a text is none."""
    codes = texts.combine_chunks().dictionary_encode()
    numbers = [_number_in(text) for text in codes.dictionary.to_pylist()]
    others = [t for t, n in zip(codes.dictionary.to_pylist(), numbers, strict=True) if n is None]
    found = pa.array(numbers, pa.float64()).take(codes.indices)
    if found.null_count - texts.null_count > 0.5 * len(texts):
        raise ValueError(
            f"The label holds values that are no numbers. Received: column '{name}' with "
            f"{', '.join(map(repr, others[:3]))}. Expected: 1 for a click and 0 for none, or a "
            "number that `positive_from` of the spec divides. Write the column so in the log."
        )
    return pa.chunked_array([found])


def _number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def evidence_of(
    column: Named,
    values: pa.ChunkedArray,
    clicks: np.ndarray | None,
    users: pa.ChunkedArray | None,
    items: pa.ChunkedArray | None,
) -> Evidence:
    """What the values say, beside the clicks, users and items of the same rows."""
    profile = column.profile
    auc, after_click = math.nan, (math.nan, math.nan)
    if clicks is not None:
        after_click = shares_after_click(values, clicks)
        if not profile.is_list and not profile.is_constant:
            auc = auc_alone(values, clicks, ordered=profile.type != "string")
    of_user, of_item = (
        ids is not None and not profile.is_list and is_constant_within(values, ids)
        for ids in (users, items)
    )
    words = words_of(profile.name)
    return Evidence(profile, column.raw, words, auc, after_click, of_user, of_item)


def _days(sample: LogSample, roles: Roles, values: pa.Table) -> dict[str, int]:
    """Rows of each day; empty where there is no time."""
    if roles.day is not None:
        texts = [str(value)[:10] for value in values[roles.day].drop_null().to_pylist()]
    elif roles.timestamp is not None:
        if roles.unit is None:
            times = times_of(sample, roles.timestamp)
        else:
            factor = 1_000_000 // _PER_SECOND[roles.unit]
            times = pc.multiply(values[roles.timestamp].cast(pa.int64()), factor)
        days = pc.floor_temporal(times.drop_null().cast(pa.timestamp("us")), unit="day")
        texts = [f"{day:%Y-%m-%d}" for day in days.to_pylist()]
    else:
        return {}
    return dict(sorted(collections.Counter(texts).items()))
