"""TF_CONFIG: who a process is among those that train, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from experiments.cluster import Cluster

TWO_WORKERS = {"worker": ["a:1", "b:1"]}
SERVERS = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1", "e:1"]}


def config(cluster, task, index) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": task, "index": index}})


def test_without_a_cluster_a_process_is_its_own_chief(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    cluster = Cluster.read("default")
    assert cluster.is_chief
    assert cluster.num_trainers == 1
    # Some schedulers describe a cluster of one.
    monkeypatch.setenv("TF_CONFIG", config({"chief": ["a:1"]}, "chief", 0))
    assert Cluster.read("mirrored").is_chief


@pytest.mark.parametrize(
    ("strategy", "cluster", "task", "index", "trainers", "trainer"),
    [
        ("multi_worker", TWO_WORKERS, "worker", 0, 2, 0),
        ("multi_worker", TWO_WORKERS, "worker", 1, 2, 1),
        ("multi_worker", {"chief": ["c:1"], **TWO_WORKERS}, "chief", 0, 3, 0),
        ("multi_worker", {"chief": ["c:1"], **TWO_WORKERS}, "worker", 0, 3, 1),
        ("parameter_server", SERVERS, "chief", 0, 1, 0),
        ("parameter_server", SERVERS, "worker", 0, 1, 1),
    ],
)
def test_places_in_a_cluster(strategy, cluster, task, index, trainers, trainer):
    read = Cluster.read(strategy, config(cluster, task, index))
    assert (read.num_trainers, read.trainer_index) == (trainers, trainer)
    assert read.is_chief == (trainer == 0)


def test_a_parameter_server_is_no_chief():
    assert not Cluster.read("parameter_server", config(SERVERS, "ps", 0)).is_chief


@pytest.mark.parametrize(
    ("strategy", "text", "message"),
    [
        (
            "multi_worker",
            "",
            "needs TF_CONFIG .*Received: TF_CONFIG=nothing",
        ),
        ("multi_worker", "{", "TF_CONFIG must be JSON"),
        ("multi_worker", '{"cluster": {"worker": "a:1"}}', "TF_CONFIG must be JSON"),
        ("multi_worker", '["worker"]', "TF_CONFIG must be JSON"),
        ("multi_worker", config(TWO_WORKERS, "worker", 2), "who of them this process is"),
        ("multi_worker", config(TWO_WORKERS, "worker", "0"), "who of them this process is"),
        ("multi_worker", config(SERVERS, "worker", 0), "--strategy=multi_worker needs"),
        ("parameter_server", config(TWO_WORKERS, "worker", 0), "--strategy=parameter_server needs"),
        ("default", config(TWO_WORKERS, "worker", 0), "trains in one process. .*=multi_worker"),
    ],
)
def test_mistakes_are_told_with_an_example(strategy, text, message):
    with pytest.raises(ValueError, match=message):
        Cluster.read(strategy, text)
