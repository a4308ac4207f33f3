"""What the ids of an encoded column stand for."""

from __future__ import annotations

import itertools

from clsd_tf import Encoder
from clsd_tf.features import ColumnSpec


def id_names(encoder: Encoder, column: ColumnSpec) -> list[str]:
    """What each id of a categorical column stands for, as text."""
    if column.encoding == "vocabulary":
        names = ["missing", *["unknown"] * column.num_oov, *encoder.vocabulary(column)]
    elif column.encoding == "identity":
        names = ["missing", "other", *range(column.num_values)]
    elif column.encoding == "buckets":
        edges = encoder.boundaries(column)
        inner = [f"{low:g} to <{high:g}" for low, high in itertools.pairwise(edges)]
        names = ["missing", f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"]
    else:
        raise ValueError(
            f"The ids of column '{column.name}' have no names. Received: encoding = "
            f'"{column.encoding}". Expected: vocabulary, identity or buckets.'
        )
    return [str(name) for name in names]
