"""Which processes of a cluster are there, by whether their ports answer. No TensorFlow is imported.

A process answers from when it has started its server until it ends, whatever it is busy with.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.sharedctypes import Synchronized

from data_pipeline.progress import is_quiet, waiting
from experiments.cluster import Cluster

_POLL_SECONDS = 0.5
_ASK_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}


def answers(address: str) -> bool:
    """Whether a process listens at "host:port"."""
    return not _errors_of(address)


def is_out_of_reach(address: str) -> bool:
    """Whether there is no way to the machine of "host:port".

    A machine that is there says at once that nobody listens; by that a process that has died is
    noticed. One that has vanished says nothing, and is waited for.
    """
    errors = _errors_of(address)
    no_way = [isinstance(e, TimeoutError) or e.errno in _NO_WAY for e in errors]
    return bool(errors) and all(no_way)


def absent(cluster: Cluster, tasks: Sequence[str]) -> list[str]:
    """Those of some tasks that do not answer, such as "ps 1 (host-3:2222)"; not this process."""
    return _others(cluster, tasks, lambda address: not answers(address))


def out_of_reach(cluster: Cluster, tasks: Sequence[str]) -> list[str]:
    """Those of some tasks whose machines are out of reach."""
    return _others(cluster, tasks, is_out_of_reach)


def end_when_out_of_reach(
    cluster: Cluster, tasks: Sequence[str], seconds: float, last_work: Synchronized[float]
) -> None:
    """Kills the process that has started this one when it waits for machines out of reach.

    Args:
      cluster: of that process.
      tasks: whose machines.
      seconds: for which they are out of reach, and it has done nothing.
      last_work: when it has last done something, by `time.monotonic`; 0 before it begins.
    """
    watched = multiprocessing.parent_process()
    assert watched is not None and watched.pid is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for that process too
    since: dict[str, float] = {}
    while not connection.wait([watched.sentinel], timeout=_ASK_SECONDS):
        since = {who: since.get(who, time.monotonic()) for who in out_of_reach(cluster, tasks)}
        begin, now = last_work.value, time.monotonic()
        vanished = [who for who, start in since.items() if now - max(start, begin) >= seconds]
        if vanished and begin:
            print(
                "A machine of the cluster is out of reach. Received: nothing from "
                f"{', '.join(vanished)} in {seconds:g} seconds. Expected: an answer, if only that "
                "nobody listens there. Start what ran on it again, and this chief, with the same "
                "command: the run goes on from its last checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            os.kill(watched.pid, signal.SIGKILL)
            return


def _others(cluster: Cluster, tasks: Sequence[str], which: Callable[[str], bool]) -> list[str]:
    return [
        f"{task} {index} ({address})"
        for task in tasks
        for index, address in enumerate(cluster.addresses.get(task, ()))
        if (task, index) != (cluster.task, cluster.index) and which(address)
    ]


def _errors_of(address: str) -> list[OSError]:
    """What is raised by connections to all addresses of "host:port"; none if one is taken."""
    host, _, port = address.rpartition(":")
    place = (host, int(port))
    try:
        socket.create_connection(place, timeout=_TIMEOUT_SECONDS, all_errors=True).close()
    except OSError as error:  # the name itself
        return [error]
    except ExceptionGroup as group:
        return [error for error in group.exceptions if isinstance(error, OSError)]
    return []


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
