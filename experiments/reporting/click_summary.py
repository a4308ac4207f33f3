"""What a report says of the clicks of a run; `experiments.reporting.clicks` finds it out."""

from __future__ import annotations

import dataclasses

LOW_SHARE = 0.1
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
NUM_BINS = 40
# Values of a column with fewer clicks are not told apart.
MIN_CLICKS = 20


@dataclasses.dataclass(frozen=True)
class GroupConfidence:
    """Confidence of the clicks of a user group.

    Attributes:
      name: of the group.
      clicks: how many.
      mean: of their confidence.
      quantiles: at `QUANTILES`.
      low_share: that is among the lowest tenth of all clicks.
      counts: of clicks in `NUM_BINS` equal bins from 0 to 1.
    """

    name: str
    clicks: int
    mean: float
    quantiles: tuple[float, ...]
    low_share: float
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ValueConfidence:
    """Confidence of the clicks that have one value in a column.

    Attributes:
      value: as text.
      clicks: how many.
      mean: of their confidence.
      low_share: that is among the lowest tenth of all clicks.
      at_least: lower end of the 95 % interval of `low_share` (Wilson).
    """

    value: str
    clicks: int
    mean: float
    low_share: float
    at_least: float


@dataclasses.dataclass(frozen=True)
class ColumnConfidence:
    """How the values of a column differ in confidence.

    Attributes:
      name: of the column.
      num_values: how many there are.
      explained: share of the variance of the confidence that lies between values, less what as
        many random values would get (epsilon squared).
      values: those with `MIN_CLICKS` clicks, by falling `at_least`.
    """

    name: str
    num_values: int
    explained: float
    values: tuple[ValueConfidence, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """A click: its columns as text, in the order of `ClickSummary.example_columns`."""

    confidence: float
    cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ClickSummary:
    """All that a report says of a run's clicks.

    Attributes:
      clicks: how many.
      threshold: confidence below which a click is among the lowest tenth.
      everyone: all groups together.
      groups: one by one.
      columns: by falling `explained`.
      hours: of the day, 0 to 23, that have clicks.
      utc_offset: of the hours.
      example_columns: what is said of an example.
      lowest: examples.
      highest: examples.
      satisfied: signal -> for each tenth of the clicks from low to high confidence its mean
        confidence and the share that satisfied.
    """

    clicks: int
    threshold: float
    everyone: GroupConfidence
    groups: tuple[GroupConfidence, ...]
    columns: tuple[ColumnConfidence, ...]
    hours: tuple[ValueConfidence, ...]
    utc_offset: float
    example_columns: tuple[str, ...]
    lowest: tuple[Example, ...]
    highest: tuple[Example, ...]
    satisfied: dict[str, list[tuple[float, float]]]
