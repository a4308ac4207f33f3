"""What a column tells about: the user, the candidate item, or the request as a whole.

A recommendation request carries one user and many candidates. Which of its columns come once, and
which once a candidate, follows from the spec.
"""

from __future__ import annotations

import re
from typing import Literal

from clsd_tf.features import ClickLogSpec, ColumnSpec

Entity = Literal["user", "item", "request"]


def described_entity(spec: ClickLogSpec, column: ColumnSpec) -> Entity:
    """What `column` tells about.

    Its own `describes` decides; then its role; then, for a column of a side table, what the key of
    the table tells about; then its name, if it begins as the user's or the item's does without
    `_id`. Click histories tell about the user, the place in a shown list about the item, and all
    else about the request.
    """
    if column.describes is not None:
        return column.describes
    if column.role in ("user", "item"):
        return column.role
    if column.role == "group" or column.derived:
        return "user"
    if spec.explode and column.name == spec.explode.position:
        return "item"
    if column.table is not None:
        table = spec.tables[column.table]
        key = table.log_key or table.key
        owner = next((c for c in spec.columns if c.source_name == key and c.table is None), None)
        return "request" if owner is None else described_entity(spec, owner)
    for entity in ("user", "item"):
        stem = re.sub(r"_?id$", "", getattr(spec, entity).name)
        if stem and column.name.startswith(stem):
            return entity
    return "request"


def candidate_columns(spec: ClickLogSpec) -> tuple[ColumnSpec, ...]:
    """Columns of the model that differ from candidate to candidate."""
    return tuple(c for c in spec.model_columns if described_entity(spec, c) == "item")
