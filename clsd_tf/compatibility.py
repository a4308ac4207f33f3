"""Whether two specs encode the same columns alike, so that an id of one is that of the other."""

from __future__ import annotations

from clsd_tf.features import ClickLogSpec, ColumnSpec

# Where a column comes from and how it is read may change from one file to the next.
_OF_FILES = {"table", "source", "separator", "unit", "positive_from", "describes"}


def check_same_columns(spec: ClickLogSpec, earlier: ClickLogSpec) -> None:
    """Raises ValueError unless both encode the same columns in the same way.

    Args:
      spec: of a log.
      earlier: of the log whose encoding is used.
    """
    mine, theirs = _encoded(spec), _encoded(earlier)
    for name in [*theirs, *(name for name in mine if name not in theirs)]:
        if mine.get(name) != theirs.get(name):
            raise ValueError(
                f"The spec encodes column '{name}' otherwise than the earlier one. Received: "
                f"{_difference(mine.get(name), theirs.get(name))}. Expected: the same encoded "
                "columns in the same order with the same options; days, files and other columns "
                "may differ."
            )
    if [*mine] != [*theirs]:
        raise ValueError(
            "The spec encodes its columns in another order than the earlier one. Received: "
            f"{', '.join(mine)}. Expected: {', '.join(theirs)}."
        )


def _encoded(spec: ClickLogSpec) -> dict[str, dict[str, object]]:
    """Encoded columns and those whose encoding they share, with the options that matter."""
    columns: dict[str, ColumnSpec] = {}
    for column in spec.encoded_columns:
        columns |= {column.name: column, spec.owner(column).name: spec.owner(column)}
    return {name: column.model_dump(exclude=_OF_FILES) for name, column in columns.items()}


def _difference(mine: dict[str, object] | None, theirs: dict[str, object] | None) -> str:
    if mine is None:
        return "no such column now"
    if theirs is None:
        return "no such column then"
    return "; ".join(
        f"{option}: now {mine[option]!r}, then {theirs[option]!r}"
        for option in mine
        if mine[option] != theirs[option]
    )
