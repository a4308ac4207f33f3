"""Click histories: the last items a user clicked strictly before each impression.

Rows are never joined with each other. A window over the clicks makes the list as it stands after a
user's click number n; another one counts the clicks strictly before each impression; the two are
joined on (user, n).
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from clsd_tf.features import ROW, ClickLogSpec
from data_pipeline.engines import keep_table
from data_pipeline.splits import HISTORY, SPLIT

_TABLE = "click_histories"


def click_histories(engine: BaseBackend, rows: ir.Table, spec: ClickLogSpec) -> ir.Table:
    """The history of every row that has one.

    Args:
      engine: that holds `rows`.
      rows: with `_row`, `_time`, `_split`, user, item and label; all that came before counts,
        the rows before the training window included.
      spec: of the log, with `[history]`.

    Returns:
      A stored table of `_row` and the history under its name: at most `history.length` items,
      oldest first, clicks of the same time in the order of `_row`. Clicks at the time of the
      impression itself are not in it. Rows without a history, and those before the training
      window, are left out.
    """
    rows = rows.select(
        ROW, SPLIT, "_time", user=spec.user.name, item=spec.item.name, click=spec.label.name
    )
    clicks = rows.filter(rows.click == 1)
    in_order = ibis.window(group_by=clicks.user, order_by=[clicks["_time"], clicks[ROW]])
    last = ibis.window(
        group_by=clicks.user,
        order_by=[clicks["_time"], clicks[ROW]],
        rows=(1 - spec.history.length, 0),
    )
    lists = clicks.select(
        "user",
        number=ibis.row_number().over(in_order) + 1,
        items=clicks.item.collect().over(last),
    )
    # `_time` counts whole microseconds: up to one before it is strictly earlier.
    earlier = ibis.window(group_by=rows.user, order_by=rows["_time"], range=(None, -1))
    seen = rows.mutate(number=rows.click.sum().over(earlier).cast("int64"))
    seen = seen.filter((seen[SPLIT] != HISTORY) & (seen.number > 0)).select(ROW, "user", "number")
    joined = seen.join(lists, ["user", "number"])
    return keep_table(
        engine, _TABLE, joined.select(joined[ROW], joined["items"].name(spec.history.name))
    )
