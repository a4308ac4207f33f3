"""How many values the encoding does not know, counted as the shards are written."""

from __future__ import annotations

import collections
import threading

import numpy as np

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.splits import SPLITS

_MISSING = 0


class OovRates:
    """Share of values out of vocabulary by column and split.

    Of columns with a vocabulary or a number of values. Of a list, those elements count that the
    shards hold; a missing value counts as the default of its column, or not at all. Threads may
    share one.
    """

    def __init__(self, spec: ClickLogSpec):
        # The highest id that stands for what is not known.
        self._last_oov: dict[str, int] = {}
        for column in spec.encoded_columns:
            owner = spec.owner(column)
            if owner.encoding in ("vocabulary", "identity"):
                self._last_oov[column.name] = owner.num_oov
        self._counts: collections.Counter[tuple[str, str, bool]] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, split: str, column: ColumnSpec, ids: np.ndarray) -> None:
        """Counts encoded values of a column: ids of any shape."""
        if column.name not in self._last_oov:
            return
        present = int(np.count_nonzero(ids != _MISSING))
        known = int(np.count_nonzero(ids > self._last_oov[column.name]))
        with self._lock:
            self._counts[column.name, split, True] += known
            self._counts[column.name, split, False] += present - known

    def rates(self) -> dict[str, dict[str, float]]:
        """Column -> split -> share; a split without a value is left out."""
        rates: dict[str, dict[str, float]] = {}
        for name in self._last_oov:
            rates[name] = {}
            for split in SPLITS:
                known, unknown = (self._counts[name, split, known] for known in (True, False))
                if known + unknown:
                    rates[name][split] = unknown / (known + unknown)
        return rates
