"""`experiments.train` by several real processes: as one process would, whoever is killed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import metrics
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset, steps_per_epoch
from experiments import cluster as cluster_of_one
from experiments.runs import Run
from experiments.strategies import Distribution
from experiments.training import train_run
from tests.experiments.helpers import scores_of
from tests.experiments.processes import Cluster

pytestmark = pytest.mark.slow

BATCH = 512


@pytest.fixture(scope="module")
def sharded(log, run):
    """The log in three shards, which two workers cannot divide evenly."""
    flags = ["--output_dir=sharded", "--num_shards=3", "--block_rows=256"]
    where = (f"--spec={log / 'spec.toml'}", f"--input={log}", *flags)
    directory = run("data_pipeline.prepare", *where, cwd=log.parent).parent
    assert len(Manifest.load(directory).of_split("train")) == 3
    return directory


@pytest.fixture
def alone(configure, sharded, train, tmp_path):
    """Trains the run that two workers train, in this process."""

    def alone(**fields) -> Run:
        config = configure("clsd", data_dir=str(sharded), data="", batch_size=BATCH, **fields)
        config = dataclasses.replace(config, input_shares=2)
        return train(tmp_path / "alone", config)

    return alone


@pytest.fixture
def cluster(sharded, tmp_path):
    """Makes processes that train a run in `together`."""

    def cluster(*flags: str, **tasks: int) -> Cluster:
        command = ["experiments.train", f"--data_dir={sharded}", "--model_dir=together"]
        command += ["--backbone=mlp", '--backbone_options={"units": [16]}', f"--batch_size={BATCH}"]
        return Cluster(tmp_path, [*command, *flags], tasks)

    return cluster


def epochs_of(run: Run, phase: str) -> list[dict[str, float]]:
    return json.loads((run.directory / phase / "phase.json").read_text())["epochs"]


def test_two_workers_train_as_one_process_though_one_is_killed(alone, cluster, tmp_path):
    """A plain teacher, its scores, and a student in whose middle all have to begin again."""
    together = Run(tmp_path / "together")
    flags = ["--strategy=multi_worker", "--teacher=scores", "--checkpoint_steps=10"]
    processes = cluster(*flags, "--deterministic", worker=2)
    processes.run(kill=("worker", 1), once=together.student / "checkpoints" / "ckpt-20.index")
    assert min(processes.starts.values()) >= 2
    undisturbed = alone(teacher="scores")
    for phase in ("teacher", "student"):
        mine, theirs = ([*epochs_of(run, phase)] for run in (together, undisturbed))
        for one, other in zip(mine, theirs, strict=True):
            if phase == "student":  # these cover what was trained after the resume
                for name in [n for n in one if not n.startswith("val_")]:
                    del one[name], other[name]
            assert one == pytest.approx(other, rel=1e-4, nan_ok=True)
        scores = (scores_of(run, phase) for run in (together, undisturbed))
        np.testing.assert_allclose(*scores, atol=1e-5)
    tables = [
        json.loads((run.student / "phase.json").read_text())["confidence"]
        for run in (together, undisturbed)
    ]
    for one, other in zip(*tables, strict=True):
        for name in ("noise_rate", "scale", "bias"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_replicas_of_one_process_train_as_one_device(configure, plain, two_replicas, tmp_path):
    run = Run(tmp_path / "mirrored")
    config = configure("plain")
    run.begin(config, overwrite=False)
    mirrored = Distribution(cluster_of_one.Cluster("mirrored"), two_replicas)
    train_run(run, config, checkpoint_steps=1000, distribution=mirrored)
    np.testing.assert_allclose(scores_of(run), scores_of(plain), atol=1e-5)


def test_parameter_servers_with_cut_tables(cluster, sharded, tmp_path):
    """A plain teacher and its student, by workers of which one is killed and comes back."""
    together = Run(tmp_path / "together")
    flags = ["--strategy=parameter_server", "--min_shard_bytes=16384", "--checkpoint_steps=20"]
    processes = cluster(*flags, chief=1, worker=2, ps=2)
    processes.run(kill=("worker", 0), once=together.teacher / "checkpoints" / "ckpt-20.index")
    assert processes.starts["chief", 0] == 1
    assert processes.starts["worker", 0] == 2
    steps = steps_per_epoch(sharded, "train", BATCH)
    latest = tf.train.latest_checkpoint(str(together.student / "checkpoints"))
    assert latest.endswith(f"ckpt-{steps}")
    # The chief and each server have written what they hold; the larger table is in two parts.
    sizes = sorted(p.stat().st_size for p in together.student.glob("weights.data-*"))
    table = tf.train.load_checkpoint(str(together.student / "weights")).get_tensor(
        "backbone/embedding/table_16/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert len(sizes) == 3
    assert 0.4 * table.nbytes < sizes[1] < table.nbytes
    labels = np.concatenate([y for _, y, _ in make_dataset(sharded, "valid", 4096)])
    assert metrics.auc(labels, scores_of(together)) > 0.55


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
