"""A small simulated log, prepared once by the commands a user would run."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.cli import write_json
from data_pipeline.manifest import Manifest, data_checksum
from experiments.arms import get_arm
from experiments.runs import Run, TrainConfig
from experiments.training import train_run
from tests.experiments.processes import Cluster


def run_command(module: str, *arguments: str, cwd: pathlib.Path) -> pathlib.Path:
    """Runs a command in a process of its own; returns the path of its results."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = cwd / done.stdout.splitlines()[-1]
    assert set(json.loads(results.read_text())) == {"command", "config", "metrics"}
    return results


@pytest.fixture(scope="session")
def run():
    """`run_command`."""
    return run_command


@pytest.fixture(scope="session")
def log(tmp_path_factory) -> pathlib.Path:
    """A simulated log with its spec and its truth."""
    directory = tmp_path_factory.mktemp("simulated")
    flags = ["--rows=30000", "--users=600", "--items=300", "--seed=1"]
    return run_command("data_pipeline.simulate", "--output_dir=log", *flags, cwd=directory).parent


@pytest.fixture(scope="session")
def prepared(log) -> pathlib.Path:
    """The log, prepared."""
    where = (f"--spec={log / 'spec.toml'}", f"--input={log}", "--output_dir=prepared")
    directory = run_command("data_pipeline.prepare", *where, cwd=log.parent).parent
    assert all(Manifest.load(directory).rows.values())
    return directory


@pytest.fixture(scope="session")
def configure(prepared):
    """Makes the config of a run on the prepared log, small enough for a test."""

    def configure(method: str = "clsd", **fields: object) -> TrainConfig:
        options = get_arm(method).with_options(fields.pop("options", {}))
        defaults = {
            "backbone": "mlp",
            "backbone_options": {"units": [16]},
            "batch_size": 256,
            "data_dir": str(prepared),
            "data": data_checksum(prepared),
        }
        return TrainConfig(method=method, options=options, **{**defaults, **fields})

    return configure


@pytest.fixture(scope="session")
def train():
    """Trains a run in a directory to its end."""

    def train(
        directory: pathlib.Path,
        config: TrainConfig,
        checkpoint_steps: int = 1000,
        details: bool = False,
    ) -> Run:
        trained = Run(directory)
        trained.begin(config, overwrite=False)
        metrics = train_run(trained, config, checkpoint_steps=checkpoint_steps, details=details)
        write_json(trained.results, {"metrics": {**metrics, "seconds": 100.0}})
        return trained

    return train


@pytest.fixture(scope="session")
def plain(tmp_path_factory, configure, train) -> Run:
    """A finished plain run."""
    return train(tmp_path_factory.mktemp("runs") / "plain", configure("plain"))


@pytest.fixture(scope="session")
def clsd(tmp_path_factory, configure, train) -> Run:
    """A finished run of CLSD with confidence per group, and all that TensorBoard can show of it."""
    config = configure("clsd", options={"confidence": "affine"})
    return train(tmp_path_factory.mktemp("runs") / "clsd", config, details=True)


@pytest.fixture(scope="session")
def sharded(log, run):
    """The log in three shards, which two workers cannot divide evenly."""
    flags = ["--output_dir=sharded", "--num_shards=3", "--block_rows=256"]
    where = (f"--spec={log / 'spec.toml'}", f"--input={log}", *flags)
    directory = run("data_pipeline.prepare", *where, cwd=log.parent).parent
    assert len(Manifest.load(directory).of_split("train")) == 3
    return directory


@pytest.fixture
def cluster(sharded, tmp_path):
    """Makes processes that train a run in `together`."""

    def cluster(*flags: str, module: str = "experiments.train", **tasks: int) -> Cluster:
        command = [module, f"--data_dir={sharded}", "--model_dir=together", "--backbone=mlp"]
        return Cluster(tmp_path, [*command, '--backbone_options={"units": [16]}', *flags], tasks)

    return cluster


@pytest.fixture
def encoded_arrays(tmp_path) -> pathlib.Path:
    """Encoded rows as `workers/arrays.py` describes them."""
    directory = tmp_path / "arrays"
    directory.mkdir()
    columns = [
        {"name": "item", "kind": "categorical", "cardinality": 9, "length": None, "table": "item"},
        {"name": "past", "kind": "categorical", "cardinality": 9, "length": 3, "table": "item"},
        {"name": "x", "kind": "numeric", "cardinality": 0, "length": None},
    ]
    (directory / "columns.json").write_text(json.dumps(columns))
    rows = 40_000
    np.save(directory / "item.npy", np.arange(rows, dtype=np.int32))
    np.save(directory / "past.npy", np.zeros((rows, 3), np.int32))
    np.save(directory / "x.npy", np.zeros(rows, np.float32))
    np.save(directory / "_label.npy", np.zeros(rows, np.float32))
    return directory
