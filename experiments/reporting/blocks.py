"""What a report is made of: sections of paragraphs, tables and figures. All text is plain text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from experiments.statistics import Interval

# What differences of AUC are shown in.
UNIT = 1e-4
# Stands in a cell without a value.
NOTHING = "\u2013"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      caption: what it shows.
      columns: heads.
      rows: cells as text, one for each column.
      text_columns: so many of the first columns hold text, the others numbers.
      is_folded: whether it is shown on request.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    is_folded: bool = False

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(
                f"A row of the table '{self.caption}' does not fit. Received: {len(wrong[0])} "
                f"cells. Expected: {len(self.columns)}, one for each of {', '.join(self.columns)}."
            )


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure, with the numbers behind it.

    Attributes:
      title: short.
      alt: what is to be seen, for those who cannot see it.
      svg: markup, see `experiments.reporting.svg`.
      width: in CSS pixels, at most.
      table: the numbers.
    """

    title: str
    alt: str
    svg: str
    width: int
    table: Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      name: identifies it in the page: a word.
      title: heading.
      text: paragraphs that say how to read it.
      figures: beside each other where there is room.
      tables: below each other.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def decimal(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share in per cent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.1%}"


def difference(interval: Interval) -> str:
    """A difference in units of 0.0001, with a star where its interval leaves 0 out."""
    if not math.isfinite(interval.mean):
        return NOTHING
    return f"{interval.mean / UNIT:+.1f}{'*' if leaves_zero_out(interval) else ''}"


def ends(interval: Interval) -> str:
    """The ends of an interval in units of 0.0001."""
    if not math.isfinite(interval.low):
        return NOTHING
    return f"{interval.low / UNIT:+.1f} to {interval.high / UNIT:+.1f}"


def leaves_zero_out(interval: Interval) -> bool:
    """Whether both ends lie on the same side of 0."""
    return interval.low > 0.0 or interval.high < 0.0


def shortened(text: str, length: int = 28) -> str:
    """Text that fits beside an axis."""
    return text if len(text) <= length else text[: length - 1] + "…"
