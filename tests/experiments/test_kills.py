"""Commands that are killed at random moments end where undisturbed ones end."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import killed_runs
from experiments.kills import share


def test_kills_are_divided_evenly():
    assert [share(10, 4, i) for i in range(4)] == [2, 3, 2, 3]


class TestWhatIsSeen:
    """The checks see what they are there for."""

    def test_half_a_file(self, tmp_path):
        run = tmp_path / "disturbed" / "run"
        (run / "student").mkdir(parents=True)
        (run / "config.json").write_text('{"a": ')
        (run / ".config.json.7.tmp").write_text('{"a": ')
        (run / "student" / "phase.json").write_text("{}")
        (run / "export" / "1").mkdir(parents=True)
        assert sorted(killed_runs.whole(tmp_path)) == [
            "a phase without weights: student",
            "half a file: run/config.json",
            "half an export: 1",
        ]
        assert killed_runs.left_overs(tmp_path) == ["left over: run/.config.json.7.tmp"]

    def test_half_a_data_set(self, tmp_path):
        (tmp_path / "disturbed" / "prepared").mkdir(parents=True)
        (problem,) = killed_runs.whole(tmp_path)
        assert problem.startswith("half a data set: Not a prepared data set")

    def test_metrics_but_for_seconds_and_counted_names(self):
        one = {"seconds": 1.0, "student": {"parameters": [{"name": "dense_2", "count": 3}]}}
        other = {"seconds": 2.0, "student": {"parameters": [{"name": "dense_3", "count": 3}]}}
        assert killed_runs._learned(one) == killed_runs._learned(other)
        other["student"]["parameters"][0]["count"] = 4
        assert killed_runs._learned(one) != killed_runs._learned(other)

    def test_bytes_that_differ(self, tmp_path):
        for name in ("undisturbed", "disturbed"):
            (tmp_path / name / "prepared").mkdir(parents=True)
            (tmp_path / name / "prepared" / "a").write_text(name)
            (tmp_path / name / "prepared" / "results.json").write_text(name)
        (tmp_path / "disturbed" / "prepared" / "b").touch()
        assert killed_runs.differences(tmp_path, "prepare") == [
            "only one run has prepared/b",
            "prepared/a differs",
        ]


@pytest.mark.slow
def test_eight_kills(run, tmp_path: pathlib.Path):
    flags = ["--output_dir=kills", "--kills=8", "--rows=1500", "--seed=1"]
    metrics = json.loads(run("experiments.kills", *flags, cwd=tmp_path).read_text())["metrics"]
    assert metrics["problems"] == []
    assert metrics["kills"] >= 6  # a kill may come too late
    assert set(metrics["commands"]) == {"prepare", "train", "score", "export"}
