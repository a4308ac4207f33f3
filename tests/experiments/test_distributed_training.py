"""`experiments.train` by several real processes: as one process would, whoever is killed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from experiments import cluster as cluster_of_one
from experiments.runs import Run
from experiments.strategies import Distribution
from experiments.training import train_run
from tests.experiments.helpers import scores_of

pytestmark = pytest.mark.slow


@pytest.fixture
def alone(configure, sharded, train, tmp_path):
    """Trains the run that two workers train, in this process."""

    def alone(**fields) -> Run:
        config = configure("clsd", data_dir=str(sharded), data="", input_shares=2, **fields)
        return train(tmp_path / "alone", config)

    return alone


def epochs_of(run: Run, phase: str) -> list[dict[str, float]]:
    return json.loads((run.directory / phase / "phase.json").read_text())["epochs"]


def assert_same_confidence(one: Run, other: Run) -> None:
    mine, theirs = (json.loads((r.student / "phase.json").read_text()) for r in (one, other))
    for row, expected in zip(mine["confidence"], theirs["confidence"], strict=True):
        assert row.pop("group") == expected.pop("group")
        assert row == pytest.approx(expected, rel=1e-4)


def state_of(run: Run) -> dict[str, np.ndarray]:
    """All that the student's last checkpoint holds: weights, slots, confidence, teacher."""
    latest = tf.train.latest_checkpoint(str(run.student / "checkpoints"))
    checkpoint = tf.train.load_checkpoint(latest)
    values = {name: checkpoint.get_tensor(name) for name in checkpoint.get_variable_to_shape_map()}
    del values["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]  # how often it was saved is no result
    return {name: v for name, v in values.items() if not isinstance(v, bytes)}


def assert_same_state(one: Run, other: Run) -> None:
    mine, theirs = state_of(one), state_of(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        expected = theirs[name]
        if name.split("/")[-3] in ("histogram", "counts", "weighted"):
            # A logit at the border of two bins may be in either.
            value, expected = value.cumsum(axis=1), expected.cumsum(axis=1)
            assert np.mean(~np.isclose(value, expected, rtol=1e-5)) < 1e-3, name
        else:
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_workers_train_as_one_process_though_one_is_killed(alone, cluster, tmp_path):
    """A plain teacher, its scores, and a student in whose middle all have to begin again."""
    together = Run(tmp_path / "together")
    flags = ["--strategy=multi_worker", "--teacher=scores", "--batch_size=512"]
    processes = cluster(*flags, "--checkpoint_steps=10", "--deterministic", worker=2)
    processes.run(kill=("worker", 1), once=together.student / "checkpoints" / "ckpt-20.index")
    assert min(processes.starts.values()) >= 2
    undisturbed = alone(teacher="scores", batch_size=512)
    for phase in ("teacher", "student"):
        for one, other in zip(*(epochs_of(r, phase) for r in (together, undisturbed)), strict=True):
            assert one == pytest.approx(other, rel=1e-5, nan_ok=True)
        scores = (scores_of(run, phase) for run in (together, undisturbed))
        np.testing.assert_allclose(*scores, atol=1e-5)
    assert_same_confidence(together, undisturbed)
    assert_same_state(together, undisturbed)


@pytest.mark.parametrize(
    ("teacher", "confidence", "batch_size", "killed"),
    [
        # Of 188 steps the teacher is warm in the last 87; the kill is at 120.
        ("ema", "mixture", 128, True),
        ("ema", "affine", 128, False),
        ("ema", "multi_granularity", 128, False),
        ("frozen", "affine", 512, False),
    ],
)
def test_two_workers_hold_the_same_confidence_as_one(
    alone, cluster, tmp_path, teacher, confidence, batch_size, killed
):
    together = Run(tmp_path / "together")
    flags = ["--strategy=multi_worker", f"--teacher={teacher}", f"--confidence={confidence}"]
    flags += [f"--batch_size={batch_size}", "--checkpoint_steps=40"]
    processes = cluster(*flags, module="tests.experiments.replica", worker=2)
    once = together.student / "checkpoints" / "ckpt-120.index"
    processes.run(**({"kill": ("worker", 1), "once": once} if killed else {}))
    assert (min(processes.starts.values()) >= 2) == killed
    options = {"confidence": confidence}
    undisturbed = alone(teacher=teacher, options=options, batch_size=batch_size)
    for one, other in zip(*(epochs_of(r, "student") for r in (together, undisturbed)), strict=True):
        assert one == pytest.approx(other, rel=1e-5, nan_ok=True)
    assert_same_confidence(together, undisturbed)
    assert_same_state(together, undisturbed)
    first, second = (np.load(tmp_path / f"replica-{index}.npz") for index in range(2))
    assert len(first) > 10
    for name, value in first.items():  # bit by bit: they would part for good otherwise
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_replicas_of_one_process_train_as_one_device(configure, plain, two_replicas, tmp_path):
    run = Run(tmp_path / "mirrored")
    config = configure("plain")
    run.begin(config, overwrite=False)
    mirrored = Distribution(cluster_of_one.Cluster("mirrored"), two_replicas)
    train_run(run, config, checkpoint_steps=1000, distribution=mirrored)
    np.testing.assert_allclose(scores_of(run), scores_of(plain), atol=1e-5)


def test_a_machine_without_a_tpu(sharded, tmp_path):
    command = ["experiments.train", f"--data_dir={sharded}", "--model_dir=run", "--strategy=tpu"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no TPU. Received: --tpu='local', which gave: " in done.stderr
    assert "Traceback" not in done.stderr
