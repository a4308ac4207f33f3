"""The directory of a run: begun, resumed, refused."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from experiments.runs import Run, TrainConfig

CONFIG = TrainConfig(data_dir="prepared", data="abc", options={"alpha": 0.5})


def test_config_comes_back(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG, overwrite=False)
    assert run.config() == CONFIG


def test_the_same_options_go_on_wherever_the_data_set_moved(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG, overwrite=False)
    run.begin(dataclasses.replace(CONFIG, data_dir="moved"), overwrite=False)


@pytest.mark.parametrize("change", [{"seed": 1}, {"data": "other"}, {"options": {"alpha": 1.0}}])
def test_other_options_are_refused_by_name(tmp_path, change):
    run = Run(tmp_path / "run")
    run.begin(CONFIG, overwrite=False)
    with pytest.raises(ValueError, match=f"other options.*{next(iter(change))}: now .*then"):
        run.begin(dataclasses.replace(CONFIG, **change), overwrite=False)


def test_overwrite_starts_anew(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(CONFIG, overwrite=False)
    (run.directory / "left").touch()
    run.begin(dataclasses.replace(CONFIG, seed=1), overwrite=True)
    assert run.config().seed == 1
    assert not (run.directory / "left").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        Run(tmp_path).begin(CONFIG, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()


def test_no_run_and_unfinished_runs_are_told_apart(tmp_path):
    run = Run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"Not a run.*has no config\.json"):
        run.require_finished()
    run.begin(CONFIG, overwrite=False)
    with pytest.raises(ValueError, match=r"is not finished.*clsd-train"):
        run.require_finished()


def test_data_that_is_encoded_otherwise_is_refused(prepared, plain, tmp_path):
    plain.require_same_encoding(prepared)
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    vocabulary = other / "vocab" / "user_id.txt"
    lines = vocabulary.read_text().splitlines()
    vocabulary.write_text("\n".join(reversed(lines)) + "\n")
    with pytest.raises(ValueError, match=r"encoded by other tables.*user_id\.txt"):
        plain.require_same_encoding(other)
