"""Which processes of a cluster are there, by whether their ports answer. No TensorFlow is imported.

A process answers from when it has started its server until it ends, whatever it is busy with.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence

from data_pipeline.progress import is_quiet, waiting
from experiments.cluster import Cluster

_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 5.0


def answers(address: str) -> bool:
    """Whether a process listens at "host:port"."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def absent(cluster: Cluster, tasks: Sequence[str]) -> list[str]:
    """Those of some tasks that do not answer, such as "ps 1 (host-3:2222)"; not this process."""
    return [
        f"{task} {index} ({address})"
        for task in tasks
        for index, address in enumerate(cluster.addresses.get(task, ()))
        if (task, index) != (cluster.task, cluster.index) and not answers(address)
    ]


def tell_who_is_missing(cluster: Cluster, tasks: Sequence[str]) -> None:
    """Says on standard error, once, which processes of some tasks do not answer yet."""
    missing = absent(cluster, tasks)
    if missing and not is_quiet():
        print(f"Waiting for {', '.join(missing)}", file=sys.stderr, flush=True)


def wait_for(cluster: Cluster, tasks: Sequence[str], seconds: float) -> None:
    """Waits until all processes of some tasks answer.

    Args:
      cluster: of this process.
      tasks: such as "worker".
      seconds: to wait, at most.

    Raises:
      RuntimeError: some do not answer in time.
    """
    stop = time.monotonic() + seconds
    while missing := absent(cluster, tasks):
        if time.monotonic() >= stop:
            raise RuntimeError(
                f"Processes of the cluster do not answer. Received: nothing from "
                f"{', '.join(missing)} in {seconds:g} seconds. Expected: all that TF_CONFIG names, "
                "started with the same command. Start them, then this one again; it waits for "
                "--connect_seconds."
            )
        with waiting(f"Waiting for {', '.join(missing)}"):
            while time.monotonic() < stop and absent(cluster, tasks) == missing:
                time.sleep(_POLL_SECONDS)
