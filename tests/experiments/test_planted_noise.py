"""Clicks and rates against the truth of planted noise, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.evaluation import ScoredSplit
from experiments.planted_noise import (
    planted_rows,
    rate_recovery,
    without_noise,
)


def test_clicks_that_nobody_made_are_no_clicks():
    rows = np.array([4, 7, 9])
    scored = ScoredSplit(np.ones(3), np.array([1.0, 1.0, 0.0]), rows, rows, rows, {})
    assert without_noise(scored, np.array([7])).labels.tolist() == [1.0, 0.0, 0.0]


def test_the_truth_is_read_by_split(tmp_path):
    assert len(planted_rows(tmp_path, "train")) == 0
    truth = {
        "_row": [0, 1, 2, 3],
        "split": ["train", "train", "valid", "valid"],
        "is_noise": [False, True, True, False],
    }
    (tmp_path / "truth").mkdir()
    pq.write_table(pa.table(truth), tmp_path / "truth" / "noise.parquet")
    assert planted_rows(tmp_path, "train").tolist() == [1]
    assert planted_rows(tmp_path, "valid").tolist() == [2]
    assert planted_rows(tmp_path, "test").tolist() == []


def test_planted_rates_are_told_from_noise_of_the_log():
    """A group clicks at .2 without interest; a tenth of what is left is flipped: 1 - .8 * .9."""
    noisy = [{"group": "pooled", "noise_rate": 0.3}, {"group": "new", "noise_rate": 0.28}]
    clean = [{"group": "pooled", "noise_rate": 0.2}, {"group": "new", "noise_rate": 0.2}]
    (row,) = rate_recovery(noisy, clean, {"new": 0.1})
    assert row == pytest.approx(
        {"group": "new", "noisy": 0.28, "clean": 0.2, "estimated": 0.1, "planted": 0.1}
    )
    assert rate_recovery([{"group": "new", "scale": 1.0}], clean, {"new": 0.1}) == []
