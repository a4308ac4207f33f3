"""What can be said of a column from its values alone, and from its values beside the clicks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clsd_tf.metrics import auc

# Fewer clicks than these say nothing about what follows a click.
_MIN_CLICKS = 20
# A value's click rate in one half counts as so many rows of the average.
_PRIOR_ROWS = 20.0


@dataclasses.dataclass(frozen=True)
class ColumnProfile:
    """A column as a sample shows it.

    Attributes:
      name: in the file.
      type: "int", "float" or "string"; of elements where it is a list.
      is_list: whether a row holds several values.
      rows: of the sample.
      present: rows of it with a value.
      distinct: different values of the sample; of a list, different elements.
      distinct_in_log: about how many in all rows.
      log_rows: all rows.
      low, high: smallest and largest number; None for text, or without values.
      mean: of numbers; 0 for text, or without values.
      length: 95 % of lists are no longer, or of texts in characters.
      examples: the most frequent values, as text.
    """

    name: str
    type: str
    is_list: bool
    rows: int
    present: int
    distinct: int
    distinct_in_log: int
    log_rows: int
    low: float | None
    high: float | None
    mean: float
    length: int
    examples: tuple[str, ...]

    @property
    def missing(self) -> float:
        """Share of rows without a value."""
        return 1 - self.present / self.rows if self.rows else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether all rows have the same value, or none has one."""
        return self.distinct <= 1 and (self.present == self.rows or not self.present)

    @property
    def is_nearly_unique(self) -> bool:
        """Whether nearly each row has a value of its own."""
        if self.present < 100 or self.distinct <= 0.95 * self.present:
            return False
        # In a thin sample of a long log each user has one row: all rows have to agree, of which
        # the values are counted to some per cent only.
        return self.distinct_in_log > 0.85 * self.log_rows * self.present / self.rows


def profile(
    name: str,
    type_: str,
    is_list: bool,
    values: pa.ChunkedArray,
    distinct_in_log: int,
    log_rows: int,
) -> ColumnProfile:
    """Describes a column.

    Args:
      name: of it.
      type_: of its values, or of their elements.
      is_list: whether they are lists.
      values: typed, `[rows]`; missing ones are null.
      distinct_in_log: about how many different ones all rows have.
      log_rows: all rows.
    """
    values = values.combine_chunks()
    rows = len(values)
    if is_list:
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
        present, elements = int((lengths > 0).sum()), values.flatten().drop_null()
    else:
        elements = values.drop_null()
        present, lengths = len(elements), np.zeros(0)
        if type_ == "string":
            lengths = pc.utf8_length(elements).to_numpy(zero_copy_only=False)
    counts = elements.value_counts()
    frequent = counts.take(pc.sort_indices(counts.field("counts"))[::-1][:3])
    whole = is_list or rows == log_rows  # then what was counted is exact
    is_number = type_ != "string" and len(elements) > 0
    extremes = pc.min_max(elements) if is_number else None
    return ColumnProfile(
        name=name,
        type=type_,
        is_list=is_list,
        rows=rows,
        present=present,
        distinct=len(counts),
        distinct_in_log=len(counts) if whole else max(distinct_in_log, len(counts)),
        log_rows=log_rows,
        low=float(extremes["min"].as_py()) if is_number else None,
        high=float(extremes["max"].as_py()) if is_number else None,
        mean=float(pc.mean(elements).as_py()) if is_number else 0.0,
        length=int(np.quantile(lengths, 0.95)) if len(lengths) else 0,
        examples=tuple(str(value) for value in frequent.field("values").to_pylist()),
    )


def shares_after_click(values: pa.ChunkedArray, clicks: np.ndarray) -> tuple[float, float]:
    """Share of clicks, and of non-clicks, that have a value that is neither missing nor zero.

    Returns:
      (nan, nan) where there are too few clicks or non-clicks to tell.
    """
    there = _is_something(values.combine_chunks())
    clicked = clicks == 1
    if min(clicked.sum(), (~clicked).sum()) < _MIN_CLICKS:
        return float("nan"), float("nan")
    return float(there[clicked].mean()), float(there[~clicked].mean())


def auc_alone(values: pa.ChunkedArray, clicks: np.ndarray, *, ordered: bool) -> float:
    """How well a single column tells clicks from other rows, in [0.5, 1]; nan without clicks.

    Args:
      values: `[rows]`, not lists.
      clicks: `[rows]`, in {0, 1}.
      ordered: numbers rank as they are, in the better direction, a missing value below all. Other
        values, and numbers too, rank by their click rate in the other half of the rows: the better
        of the two counts.
    """
    if min(clicks.sum(), len(clicks) - clicks.sum()) < _MIN_CLICKS:
        return float("nan")
    values = values.combine_chunks()
    best = 0.5
    if ordered:
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        numbers = np.where(np.isnan(numbers), -np.inf, numbers)
        # Infinity would be a fine rank, but metrics refuse what may be a model that diverged.
        _, ranks = np.unique(numbers, return_inverse=True)
        value = auc(clicks, ranks.astype(np.float64))
        best = max(best, value, 1 - value)
    codes = values.dictionary_encode()
    numbers = pc.fill_null(codes.indices, len(codes.dictionary)).to_numpy(zero_copy_only=False)
    return max(best, _auc_by_rates(numbers, clicks, len(codes.dictionary) + 1))


def is_constant_within(values: pa.ChunkedArray, ids: pa.ChunkedArray) -> bool:
    """Whether the values are a property of the ids: nearly all rows of an id hold the same one.

    Only ids with two rows and more count, and with a value other than the most frequent one: what
    is 0 in nearly all rows is the same in most rows of an id, and is no property of it.
    """
    table = pa.table({"id": ids, "value": values}).drop_null()
    if not table.num_rows:
        return False
    counts = table["value"].value_counts()
    frequent = counts[int(np.argmax(counts.field("counts")))]["values"]
    table = table.append_column("other", pc.not_equal(table["value"], frequent))
    counted = table.group_by("id").aggregate(
        [("value", "count"), ("value", "count_distinct"), ("other", "any")]
    )
    several = counted.filter(pc.and_(pc.greater(counted["value_count"], 1), counted["other_any"]))
    if several.num_rows < 10:
        return False
    return pc.mean(pc.equal(several["value_count_distinct"], 1)).as_py() >= 0.99


def _is_something(values: pa.Array) -> np.ndarray:
    """Whether each value is there: bool `[rows]`, neither missing nor zero nor empty."""
    if pa.types.is_list(values.type):
        something = pc.greater(pc.list_value_length(values), 0)
    elif pa.types.is_string(values.type):
        something = pc.is_valid(values)
    else:
        something = pc.not_equal(values, 0)
    return pc.fill_null(something, False).to_numpy(zero_copy_only=False)


def _auc_by_rates(codes: np.ndarray, clicks: np.ndarray, size: int) -> float:
    """AUC of each value's click rate in the rows of the other half."""
    half = np.arange(len(codes)) % 2 == 0
    scores = np.empty(len(codes))
    for own in (half, ~half):
        other = ~own
        rows = np.bincount(codes[other], minlength=size)
        clicked = np.bincount(codes[other], clicks[other], minlength=size)
        rate = (clicked + _PRIOR_ROWS * clicks[other].mean()) / (rows + _PRIOR_ROWS)
        scores[own] = rate[codes[own]]
    # Each half is judged by itself: the averages of the two differ.
    values = [auc(clicks[own], scores[own]) for own in (half, ~half)]
    return float(np.nanmean(values)) if not np.isnan(values).all() else 0.5
