"""The manifests of examples/kubernetes: every pod of a Job finds its place in the same cluster."""

from __future__ import annotations

import pathlib
import subprocess

import pytest
import yaml

from experiments.cluster import Cluster

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "kubernetes"


def pods(manifest: str):
    """(strategy, cluster that the pod's shell describes, name of the pod's Job, index)."""
    documents = [*yaml.safe_load_all((EXAMPLES / manifest).read_text(encoding="utf-8"))]
    services = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Service"}
    for job in (d for d in documents if d["kind"] == "Job"):
        name, spec = job["metadata"]["name"], job["spec"]
        assert spec["completionMode"] == "Indexed"
        assert spec["completions"] == spec["parallelism"]
        pod = spec["template"]["spec"]
        assert services[pod["subdomain"]]["spec"]["selector"] == {"job-name": name}
        (script,) = pod["containers"][0]["args"]
        before, _, command = script.partition("exec ")
        strategy = command.partition("--strategy=")[2].split()[0]
        for index in range(spec["completions"]):
            done = subprocess.run(
                ["sh", "-c", f'{before}printf %s "$TF_CONFIG"'],
                env={"JOB_COMPLETION_INDEX": str(index), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=True,
            )
            yield Cluster.read(strategy, done.stdout), f"{name}-{index}.{pod['subdomain']}:2222"


@pytest.mark.parametrize("manifest", ["multi_worker.yaml", "parameter_server.yaml"])
def test_each_pod_is_what_the_cluster_says(manifest):
    clusters = list(pods(manifest))
    first, _ = clusters[0]
    assert sum(map(len, first.addresses.values())) == len(clusters)
    for cluster, host in clusters:
        assert cluster.addresses == first.addresses
        assert cluster.addresses[cluster.task][cluster.index] == host
    assert sum(cluster.is_chief for cluster, _ in clusters) == 1
