"""The confidence function of a run as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

_LOW, _HIGH = "noise_rate_low", "noise_rate_high"


def print_confidence(rows: Sequence[Mapping[str, object]], console: Console | None = None) -> None:
    """Prints a table on standard error: a row for each user group, and one for all together.

    Args:
      rows: of `ClickConfidenceModel.confidence_table`.
      console: another place to print to.
    """
    names = dict.fromkeys(name for row in rows for name in row if name not in (_LOW, _HIGH))
    table = Table(title="Confidence of training clicks by user group")
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if name == "group" else "right")
    for row in rows:
        table.add_row(*(_cell(row, name) for name in names))
    (console or Console(stderr=True)).print(table)


def _cell(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    if name == "noise_rate" and _LOW in row:
        return f"{value:.3f} ({row[_LOW]:.3f} to {row[_HIGH]:.3f})"
    if isinstance(value, float):
        return f"{value:,.0f}" if name in ("rows", "clicks") else f"{value:.3f}"
    return "" if value is None else str(value)
