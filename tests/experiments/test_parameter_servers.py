"""`experiments.train` with parameter servers, in real processes of which any may be killed."""

from __future__ import annotations

import dataclasses
import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import metrics
from clsd_tf.batches import logits_of
from clsd_tf.features import TEACHER_LOGIT
from data_pipeline.reader import make_dataset, steps_per_epoch
from experiments.cluster import Cluster
from experiments.learning_curve import FILE as CURVE
from experiments.lost_processes import describe_loss
from experiments.models import load_model
from experiments.presence import tell_who_is_missing, wait_for
from experiments.runs import Run
from tests.experiments.helpers import scores_of

FLAGS = ["--strategy=parameter_server", "--min_shard_bytes=16384"]
TASKS = {"chief": 1, "worker": 2, "ps": 2}


def auc_of(run: Run, data_dir) -> float:
    labels = np.concatenate([y for _, y, _ in make_dataset(data_dir, "valid", 4096)])
    return metrics.auc(labels, scores_of(run))


def batches_of(run: Run) -> int:
    """How many batches the student was trained on, by its last checkpoint."""
    latest = tf.train.latest_checkpoint(str(run.student / "checkpoints"))
    return int(latest.rpartition("-")[2])


@pytest.mark.slow
def test_a_frozen_teacher_though_a_worker_is_killed(cluster, sharded, tmp_path):
    """A plain teacher and its student, by workers of which one is killed and comes back."""
    together = Run(tmp_path / "together")
    processes = cluster(*FLAGS, "--batch_size=512", "--checkpoint_steps=20", **TASKS)
    processes.run(kill=("worker", 0), once=together.teacher / "checkpoints" / "ckpt-20.index")
    assert processes.starts["chief", 0] == 1
    assert processes.starts["worker", 0] == 2
    assert batches_of(together) == steps_per_epoch(sharded, "train", 512)
    # The chief and each server have written what they hold; the larger table is in two parts.
    sizes = sorted(p.stat().st_size for p in together.student.glob("weights.data-*"))
    table = tf.train.load_checkpoint(str(together.student / "weights")).get_tensor(
        "backbone/embedding/table_16/.ATTRIBUTES/VARIABLE_VALUE"
    )
    assert len(sizes) == 3
    assert 0.4 * table.nbytes < sizes[1] < table.nbytes
    assert auc_of(together, sharded) > 0.55


@pytest.mark.slow
def test_stored_scores(cluster, sharded, tmp_path):
    together = Run(tmp_path / "together")
    flags = ["--teacher=scores", "--confidence=affine", "--batch_size=512"]
    processes = cluster(*FLAGS, *flags, **TASKS)
    processes.run()
    assert set(processes.starts.values()) == {1}
    assert batches_of(together) == steps_per_epoch(sharded, "train", 512)
    assert auc_of(together, sharded) > 0.55
    teacher = load_model(together, together.config(), part="teacher")
    scores, clicks = together.directory / "scores" / "student", 0.0
    for features, label, _ in make_dataset(sharded, "train", 4096, shuffle=False, scores=scores):
        clicks += float(tf.reduce_sum(label))
        np.testing.assert_allclose(
            features.pop(TEACHER_LOGIT), logits_of(teacher.backbone, features), atol=1e-5
        )
    table = json.loads((together.student / "phase.json").read_text())["confidence"]
    assert table[0]["clicks"] == clicks  # whichever worker counted them
    assert all(0.0 < group["mean_confidence"] < 1.0 for group in table)


@pytest.mark.slow
def test_an_ema_teacher_though_a_server_is_killed(cluster, sharded, tmp_path):
    """The chief ends with a sentence; started again with the server, it goes on where it was."""
    together = Run(tmp_path / "together")
    flags = ["--teacher=ema", "--confidence=affine", "--batch_size=128", "--checkpoint_steps=40"]
    processes = cluster(*FLAGS, *flags, **TASKS)
    once = together.student / "checkpoints" / "ckpt-120.index"
    failed, seconds = processes.lose(("ps", 1), once=once)
    assert failed == ("chief", 0)
    assert seconds < 60.0
    log = tmp_path / "chief-0.log"
    first_life = log.read_text(encoding="utf-8")
    said = first_life.splitlines()[-1]
    assert "A parameter server is gone" in said
    assert "Received: nothing from ps 1 (localhost:" in said
    assert "Start it again, and this chief, with the same command" in said
    assert "Traceback" not in first_life
    curve = (together.student / CURVE).read_text()
    at = batches_of(together)
    assert at >= 120

    processes.run()  # the chief first, which waits for the server
    assert processes.starts == {
        (t, i): 1 + ((t, i) in (("chief", 0), ("ps", 1)))
        for t, count in TASKS.items()
        for i in range(count)
    }
    assert batches_of(together) == steps_per_epoch(sharded, "train", 128)
    kept = [line for line in curve.splitlines() if json.loads(line)["step"] <= at]
    assert kept  # no two runs have the same losses: these batches were not trained on again
    assert (together.student / CURVE).read_text().splitlines()[: len(kept)] == kept
    checkpoint = tf.train.load_checkpoint(
        tf.train.latest_checkpoint(str(together.student / "checkpoints"))
    )

    def value(name: str) -> np.ndarray:
        return checkpoint.get_tensor(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE")

    assert value("teacher/step") == batches_of(together)
    table, average = (value(f"{of}backbone/embedding/table_16") for of in ("", "teacher/"))
    assert 0.0 < np.abs(table - average).max() < 0.2  # it lags behind its student
    assert auc_of(together, sharded) > 0.55


def test_who_does_not_answer_is_named(capsys):
    with socket.create_server(("localhost", 0)) as there, socket.socket() as silent:
        silent.bind(("localhost", 0))  # and does not listen
        here, gone = (f"localhost:{s.getsockname()[1]}" for s in (there, silent))
        cluster = Cluster("parameter_server", {"worker": (here,), "ps": (here, gone)})
        wait_for(cluster, ("worker",), 0.0)
        assert not capsys.readouterr().err
        tell_who_is_missing(cluster, ("worker", "ps"))
        assert capsys.readouterr().err == f"Waiting for ps 1 ({gone})\n"
        tell_who_is_missing(dataclasses.replace(cluster, task="ps", index=1), ("ps",))
        assert not capsys.readouterr().err  # that is this process
        told = describe_loss(cluster, "UnavailableError")
        assert f"nothing from ps 1 ({gone}) (UnavailableError)" in told
        answering = dataclasses.replace(cluster, addresses={"ps": (here,)})
        told = describe_loss(answering, "AbortedError")  # it was started anew in the meantime
        assert "one without its memory (AbortedError)" in told
        assert "Start this chief again" in told
        with pytest.raises(RuntimeError, match=rf"nothing from ps 1 \({gone}\) in 0.3 seconds"):
            wait_for(cluster, ("worker", "ps"), 0.3)
