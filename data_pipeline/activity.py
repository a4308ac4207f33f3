"""User groups by activity before the training window: nothing of it is known from later rows."""

from __future__ import annotations

import ibis.expr.types as ir

from clsd_tf.features import ClickLogSpec
from data_pipeline.splits import HISTORY, SPLIT


class ActivityError(ValueError):
    """Activity that cannot be counted."""


def add_activity(rows: ir.Table, spec: ClickLogSpec) -> ir.Table:
    """Adds the column of `[activity]`: each user's impressions, or clicks, before `train_from`.

    Args:
      rows: with user, label and `_split`.
      spec: of the log; without `[activity]` the rows are returned as they are.

    Returns:
      The rows with an int64 column more, 0 for users who were not seen before.

    Raises:
      ActivityError: no row lies before the training window, so that all users would be alike.
    """
    if spec.activity is None:
        return rows
    past = rows.filter(rows[SPLIT] == HISTORY)
    if not past.count().to_pyarrow().as_py():
        raise ActivityError(
            "There is no row to count activity in. Received: no row before `split.train_from` = "
            f"{spec.split.train_from!r}. Expected: earlier rows in the log, or a column with role "
            "'group' instead of [activity]."
        )
    name, user = spec.activity.name, spec.user.name
    by_clicks = spec.activity.count == "clicks"
    count = past[spec.label.name].sum() if by_clicks else past.count()
    counts = past.group_by(user).agg(**{name: count.cast("int64")})
    activity = counts[name].fill_null(0).name(name)
    return rows.left_join(counts, user).select(rows, activity)
