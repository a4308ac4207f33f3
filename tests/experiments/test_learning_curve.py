from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.learning_curve import LearningCurve, read_curve


def feed(curve: LearningCurve, losses: list[float]) -> None:
    """An epoch, as Keras tells of it: means over all batches so far."""
    curve.begin_epoch()
    for batch, mean in enumerate(np.cumsum(losses) / np.arange(1, len(losses) + 1), start=1):
        curve.add(batch, {"loss": mean})
    curve.end_epoch({"loss": float(np.mean(losses))})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "student" / "steps.jsonl"


def clock():
    return itertools.count(0, 2).__next__


def test_a_line_is_the_mean_since_the_line_before(path):
    curve = LearningCurve(path, 0, every=2, clock=clock())
    feed(curve, [1.0, 3.0, 5.0, 7.0, 9.0])
    feed(curve, [2.0, 4.0])
    lines = read_curve(path)
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 7]
    # The second epoch's first line is of its first batch alone: means begin anew.
    assert [line["loss"] for line in lines] == pytest.approx([2.0, 6.0, 9.0, 2.0, 4.0])


def test_an_epoch_that_ends_on_a_line_gets_no_second_one(path):
    curve = LearningCurve(path, 0, every=2, clock=clock())
    feed(curve, [1.0, 3.0])
    assert [line["step"] for line in read_curve(path)] == [2]


def test_it_goes_on_after_the_last_checkpoint_and_counts_seconds_of_both(path):
    curve = LearningCurve(path, 0, every=1, clock=clock())
    feed(curve, [1.0, 2.0, 3.0, 4.0])
    before = read_curve(path)
    resumed = LearningCurve(path, 2, every=1, clock=clock())
    resumed.begin_epoch(2)
    resumed.add(1, {"loss": (1.0 + 2.0 + 8.0) / 3})  # of the whole epoch, as Keras goes on
    lines = read_curve(path)
    assert lines[:2] == before[:2]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] == pytest.approx(8.0)
    assert lines[2]["seconds"] > before[1]["seconds"]
    assert resumed.seconds > lines[2]["seconds"]


def test_a_line_that_was_cut_is_left_out(path):
    curve = LearningCurve(path, 0, every=1, clock=clock())
    feed(curve, [1.0, 2.0])
    path.write_text(path.read_text()[:-5])
    assert [line["step"] for line in read_curve(path)] == [1]
    assert read_curve(path.with_name("none.jsonl")) == []


def test_confidence_is_told_where_there_is_one(path):
    curve = LearningCurve(path, 0, every=1, clock=clock())
    curve.begin_epoch()
    curve.add(1, {"loss": 0.5, "confidence": 0.75})
    assert read_curve(path)[0]["confidence"] == 0.75
