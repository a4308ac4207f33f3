"""What is known where noise was planted: which clicks are noise, and at which rates.

The truth judges; no training reads it (see `data_pipeline.noise`).
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clsd_tf.features import ROW
from data_pipeline.noise import NOISE_FILE
from experiments.evaluation import ScoredSplit


def planted_rows(data_dir: str | pathlib.Path, split: str) -> np.ndarray:
    """`_row` of each planted click of a split; none where no noise was planted."""
    path = pathlib.Path(data_dir) / NOISE_FILE
    if not path.exists():
        return np.empty(0, np.int64)
    is_planted = (pc.field("split") == split) & pc.field("is_noise")
    return pq.read_table(path, columns=[ROW], filters=is_planted)[ROW].to_numpy()


def without_noise(scored: ScoredSplit, planted: np.ndarray) -> ScoredSplit:
    """The same scores beside the clicks that users made.

    Args:
      scored: of a split.
      planted: `_row` of its planted clicks.
    """
    labels = np.where(np.isin(scored.rows, planted), 0, scored.labels)
    return dataclasses.replace(scored, labels=labels)


def rate_recovery(
    noisy: Sequence[Mapping[str, str | float]],
    clean: Sequence[Mapping[str, str | float]],
    true_rates: Mapping[str, float],
) -> list[dict[str, str | float]]:
    """Estimated against planted noise rates of each group.

    A log has noise of its own, e_clean. Of the impressions that it leaves alone a share r is
    flipped: 1 - e_noisy = (1 - e_clean)(1 - r), so that r is estimated by

        r = (e_noisy - e_clean) / (1 - e_clean)

    Args:
      noisy: table of a confidence function that estimates rates (`group`, `noise_rate`), learned
        from the noisy log.
      clean: the same, from the log as it is.
      true_rates: group -> planted rate.

    Returns:
      `group`, `noisy`, `clean`, `estimated` and `planted` for each group; nothing if the function
      estimates no rates.
    """
    rates = [
        {str(row["group"]): float(row["noise_rate"]) for row in table if "noise_rate" in row}
        for table in (noisy, clean)
    ]
    return [
        {
            "group": group,
            "noisy": rates[0][group],
            "clean": rates[1][group],
            "estimated": (rates[0][group] - rates[1][group]) / (1.0 - rates[1][group]),
            "planted": planted,
        }
        for group, planted in true_rates.items()
        if group in rates[0] and group in rates[1]
    ]
