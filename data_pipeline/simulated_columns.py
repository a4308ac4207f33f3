"""Plausible values for the columns of any spec, as a simulated world would have logged them.

A feature tells a part of what it describes: its values follow a random direction among the factors
of its users, items or requests, with noise. So a model can learn from the columns of every spec.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr

from clsd_tf.features import ClickLogSpec, ColumnSpec

MISSING_SHARE = 0.02
_NUM_TOKENS = 50  # of a vocabulary of unlimited size
_CONTINUOUS = re.compile(r"time|stay|dwell|duration|seconds|_ms$|_s$")
_COMPLAINT = re.compile(r"hate|dislike|complain|report|skip|block")


def scores(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a column tells: a noisy direction among factors `[n, k]`, about standard normal."""
    direction = rng.standard_normal(factors.shape[1])
    told = factors @ (direction / np.linalg.norm(direction))
    told = (told - told.mean()) / (told.std() or 1.0)
    return 0.9 * told + math.sqrt(1 - 0.9**2) * rng.standard_normal(len(told))


def feature_values(
    spec: ClickLogSpec, column: ColumnSpec, score: np.ndarray, rng: np.random.Generator
) -> pa.Array:
    """Raw values of a feature that follow `score` `[n]`; some are missing.

    Lists are written as strings with the column's separator.
    """
    owner = spec.owner(column)
    if column.is_list:
        lengths = rng.integers(column.max_length + 1, size=len(score))
        near = np.repeat(score, lengths) + 0.5 * rng.standard_normal(lengths.sum())
        return joined(_scalars(owner, near), lengths, column.separator)
    values = _scalars(owner, score)
    if column.role != "feature":
        return values
    missing = pa.array(rng.random(len(score)) < MISSING_SHARE)
    return pc.if_else(missing, pa.scalar(None, values.type), values)


def entity_ids(column: ColumnSpec, index: np.ndarray) -> pa.Array:
    """Raw ids of users or items by their index in the world."""
    return _tokens(column, index)


def joined(elements: pa.Array, lengths: np.ndarray, separator: str) -> pa.Array:
    """Lists of `lengths` consecutive elements, as strings."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, elements.cast(pa.string())), separator)


def label_values(column: ColumnSpec, clicked: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """0 and 1, or values on the two sides of the label's threshold."""
    if column.positive_from is None:
        return _typed(column, clicked)
    least = math.ceil(column.positive_from)
    liked = least + rng.integers(2, size=len(clicked))
    return _typed(column, np.where(clicked, liked, least - 1 - rng.integers(2, size=len(clicked))))


def satisfaction_kind(column: ColumnSpec) -> Literal["time", "complaint", "praise"]:
    """What a satisfaction column seems to be, by its type and name."""
    if column.type == "float" or _CONTINUOUS.search(column.name):
        return "time"
    return "complaint" if _COMPLAINT.search(column.name) else "praise"


def satisfaction_values(
    column: ColumnSpec, satisfaction: np.ndarray, rng: np.random.Generator, *, common: bool
) -> pa.Array:
    """What a column tells of satisfaction `[rows]`, which is NaN without a click.

    Times grow with satisfaction, complaints follow its lack, and praise is either `common` after a
    click with interest or rare.
    """
    level = np.nan_to_num(satisfaction, nan=-np.inf)
    level = level + 0.4 * rng.standard_normal(len(level), np.float32)
    match satisfaction_kind(column):
        case "time":
            unit = 1 if column.name.endswith("_s") or "seconds" in column.name else 1000
            return _typed(column, np.round(8 * unit * np.exp(level)))
        case "complaint":
            return _typed(column, np.isfinite(level) & (level < -2.5))
        case "praise":
            return _typed(column, level > (0.0 if common else 2.0))


def timestamp_values(column: ColumnSpec, epoch_ms: np.ndarray) -> pa.Array:
    """Times in the unit or the format of the column."""
    if column.type == "string":
        times = pc.strftime(pa.array(epoch_ms, pa.timestamp("ms")), "%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(times, "Z", "")
    if column.unit == "s":
        return pa.array(epoch_ms // 1000)
    return pa.array(epoch_ms * (1000 if column.unit == "us" else 1))


def group_values(
    column: ColumnSpec, group: np.ndarray, activity: np.ndarray, rng: np.random.Generator
) -> pa.Array:
    """Values of the group column that are encoded as `group` `[users]`."""
    if column.quantiles is not None:
        return _typed(column, activity_level(column, activity))
    if column.boundaries is None:
        return _tokens(column, group)
    low, high = bucket_edges(column.boundaries)
    if column.type == "int":
        low, high = np.ceil(low), np.ceil(high)
        if (empty := np.flatnonzero(low >= high)).size:
            raise ValueError(
                f"Column '{column.name}': no integer lies in bucket {empty[0]}. Received: "
                f"boundaries {list(column.boundaries)}. Expected: an integer in each bucket. Give "
                "it type 'float', or boundaries further apart."
            )
    drawn = low[group] + rng.random(len(group)) * (high - low)[group]
    return _typed(column, np.floor(drawn) if column.type == "int" else drawn)


def activity_level(column: ColumnSpec, activity: np.ndarray) -> np.ndarray:
    """Activity in the column's terms, such as a number of impressions."""
    level = np.exp(4 + 0.8 * activity)
    return np.round(level) if column.type == "int" else level


def bucket_edges(boundaries: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of all buckets; the outer ones get a width too."""
    first, last = boundaries[0], boundaries[-1]
    width = max(last - first, abs(last), 1.0)
    lowest = 0.0 if first > 0 else first - width
    return np.array([lowest, *boundaries]), np.array([*boundaries, last + width])


def _scalars(column: ColumnSpec, score: np.ndarray) -> pa.Array:
    """Values of a column that is no list, by its encoding."""
    if column.encoding == "identity":
        return _tokens(column, _places(score, column.num_values))
    if column.encoding == "hash":
        return _tokens(column, _places(score, max(column.num_buckets // 2, 2)))
    if column.encoding == "vocabulary" or column.type == "string":
        return _tokens(column, _places(score, min(column.max_size or _NUM_TOKENS, _NUM_TOKENS)))
    if column.boundaries is not None:
        low, high = bucket_edges(column.boundaries)
        values = low[0] + ndtr(score) * (high[-1] - low[0])
    elif column.scaling in ("none", "standard") and column.quantiles is None:
        values = 40 + 12 * score
    else:
        values = np.exp(4 + score)
    return _typed(column, np.round(values) if column.type == "int" else np.round(values, 3))


def _places(score: np.ndarray, count: int) -> np.ndarray:
    """Scores -> `[0, count)`; low places are frequent."""
    return np.minimum((count * ndtr(score) ** 1.5).astype(np.int64), count - 1)


def _tokens(column: ColumnSpec, index: np.ndarray) -> pa.Array:
    if column.type != "string":
        return _typed(column, index)
    stem = re.sub(r"_?id$", "", column.name) or column.name
    distinct = pa.array([f"{stem}_{i}" for i in range(int(index.max(initial=0)) + 1)])
    return distinct.take(pa.array(index))


def _typed(column: ColumnSpec, values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int64 if column.type == "int" else np.float32))
