"""No row is lost unseen: what was read is what was written, and what was left out for a reason."""

from __future__ import annotations

import dataclasses


class CountError(RuntimeError):
    """Rows that have come from nowhere, or gone there: a defect of the pipeline or its engine."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What became of the rows of a log.

    Attributes:
      rows_read: rows of its files, bad ones included. A row may be a list of impressions.
      bad_rows: those in the quarantine.
      impressions: what the good rows hold, after lists were taken apart.
      duplicates: impressions that equal an earlier one.
      left_out: impressions of other days than those asked for.
      kept: impressions that are left.
    """

    rows_read: int
    bad_rows: int
    impressions: int
    duplicates: int
    left_out: int
    kept: int

    def check(self, *, exploded: bool) -> None:
        """Raises CountError unless the counts reconcile.

        Args:
          exploded: whether a row is a list; otherwise a good row is one impression.
        """
        good_rows = self.rows_read - self.bad_rows
        as_rows = self.impressions >= good_rows if exploded else self.impressions == good_rows
        if not as_rows or self.impressions != self.kept + self.duplicates + self.left_out:
            raise CountError(
                "The rows of the log do not add up. Received: "
                f"{', '.join(f'{k} = {v}' for k, v in dataclasses.asdict(self).items())}. "
                "Expected: rows_read = bad_rows + good rows, and impressions of these = kept + "
                "duplicates + left_out. This is a defect: please report it with the spec."
            )
