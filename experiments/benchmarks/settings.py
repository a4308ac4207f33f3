"""Sizes and places of a benchmark, as its flags give them."""

from __future__ import annotations

import dataclasses
import pathlib

from experiments.benchmarks.click_log import LogSize


@dataclasses.dataclass(frozen=True)
class Settings:
    """What stages are told.

    Attributes:
      directory: of data and scratch files; what is there already is used again.
      size: of the log.
      batch_size: impressions a step.
      steps: of training in a repetition; reading and serving take a multiple of it.
      growth_rows: rows of the logs by which growth is measured; the first and the last for memory.
      cases: part of the names of cases that are measured; empty: all.
    """

    directory: pathlib.Path
    size: LogSize
    batch_size: int = 4096
    steps: int = 40
    growth_rows: tuple[int, ...] = ()
    cases: str = ""

    @property
    def data(self) -> pathlib.Path:
        """Where logs and what is made of them are kept."""
        return self.directory / "data"
