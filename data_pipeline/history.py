"""Click histories: the last items a user clicked strictly before each impression.

They are not stored. All clicks stand in one array, those of a user together and in the order of
time; the history of a row is a stretch of it, of which the row knows the end and the length.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterable

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends import BaseBackend

from clsd_tf.features import ROW, ClickLogSpec
from data_pipeline.engines import keep_table
from data_pipeline.splits import HISTORY, SPLIT
from data_pipeline.streaming import record_batches

END, LENGTH = "_history_end", "_history_length"
_CLICKS, _STRETCHES = "clicks_in_order", "click_histories"


@dataclasses.dataclass(frozen=True)
class ClickHistories:
    """The history of every row that has one.

    Attributes:
      stretches: stored table of `_row`, `_split`, END and LENGTH (int64, at least 1): the LENGTH
        clicks before place END. Rows without a history are left out.
      clicks: the items of all clicks, int64 [clicks]; of text, places among `texts`. In a file, of
        which the system keeps in memory what fits.
      texts: the different items, where these are text.
    """

    stretches: ir.Table
    clicks: np.ndarray
    texts: pa.LargeStringArray | None = None

    def lists(self, ends: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
        """Histories, the oldest click first: lists of rows given by END and LENGTH, [rows] each."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(ends - offsets[1:], lengths)
        items = pa.array(self.clicks[places])
        if self.texts is not None:
            items = self.texts.take(items)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def click_histories(
    engine: BaseBackend, rows: ir.Table, spec: ClickLogSpec, directory: pathlib.Path
) -> ClickHistories:
    """Finds the histories of rows.

    Args:
      engine: that holds `rows`.
      rows: with `_row`, `_time`, `_split`, user, item and label, none of them missing; all that
        came before counts, the rows before the training window included.
      spec: of the log, with `[history]`.
      directory: an existing one, in which the clicks get a file that has no name.

    Returns:
      Histories of at most `history.length` items, clicks of the same time in the order of `_row`.
      Clicks at the time of the impression itself are not in it. Rows before the training window
      are left out.
    """
    rows = rows.select(
        ROW, SPLIT, "_time", user=spec.user.name, item=spec.item.name, click=spec.label.name
    )
    in_order = ["user", "_time", ROW]
    clicks = rows.filter(rows.click == 1)
    # Spark numbers all of them in one task, as it does the impressions.
    place = ibis.row_number().over(order_by=[clicks[name] for name in in_order])
    clicks = clicks.select("user", "item", place=place)
    is_text = clicks.item.type().is_string()
    if is_text:
        clicks = clicks.mutate(code=ibis.dense_rank().over(order_by=clicks.item))
    # Stored: it is read several times, which have to see the same order.
    clicks = keep_table(engine, _CLICKS, clicks)
    first = clicks.group_by("user").agg(first=clicks.place.min())
    # `_time` counts whole microseconds: up to one before it is strictly earlier.
    earlier = ibis.window(group_by=rows.user, order_by=rows["_time"], range=(None, -1))
    seen = rows.mutate(number=rows.click.sum().over(earlier).cast("int64"))
    seen = seen.filter((seen[SPLIT] != HISTORY) & (seen.number > 0))
    joined = seen.select(ROW, SPLIT, "user", "number").join(first, "user")
    stretches = joined.select(
        ROW,
        SPLIT,
        **{
            END: joined["first"] + joined.number,
            LENGTH: ibis.least(joined.number, spec.history.length),
        },
    )
    stretches = keep_table(engine, _STRETCHES, stretches)
    texts = None
    if is_text:
        texts = clicks.select("item").distinct().order_by("item").to_pyarrow()["item"]
        texts = texts.cast(pa.large_string()).combine_chunks()  # of more than 2 GB, too
    in_order = clicks.order_by("place").select(item=clicks.code if is_text else clicks.item)
    return ClickHistories(stretches, _stored(record_batches(engine, in_order), directory), texts)


def _stored(batches: Iterable[pa.RecordBatch], directory: pathlib.Path) -> np.ndarray:
    """The only column of batches as an array in a file, which goes when the array does."""
    with tempfile.TemporaryFile(dir=directory) as file:
        for batch in batches:
            file.write(batch.column(0).cast(pa.int64()).to_numpy())
        if not file.tell():  # nothing cannot be mapped
            return np.zeros(0, np.int64)
        return np.memmap(file, np.int64, mode="r")
