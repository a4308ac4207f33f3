"""What a process of a cluster says when it has lost another one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from absl import logging

from experiments.cluster import Cluster
from experiments.presence import absent, end_when_out_of_reach

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


@contextlib.contextmanager
def lost_processes(cluster: Cluster, seconds: float) -> Iterator[Callable[[], None]]:
    """Says what to do when another process of the cluster is gone.

    Args:
      cluster: of this process.
      seconds: for how long the chief of parameter servers waits for a machine that is out of reach.
        Then the process is killed, after a sentence: TensorFlow would wait without end for an
        answer, at times with the lock that any other thread of Python needs.

    Yields:
      What is to be called when training begins, and whenever something is done: a chief that goes
      on without a machine needs not end.

    Raises:
      RuntimeError: instead of what TensorFlow raises.
    """
    is_watched = cluster.strategy == "parameter_server"
    with _watch(cluster, seconds) if is_watched else contextlib.nullcontext(_nothing) as at_work:
        try:
            yield at_work
        except _LOST as error:
            told = describe_loss(cluster, type(error).__name__)
            if cluster.addresses and not logging.level_debug():
                _hide_native_errors()
            raise RuntimeError(told) from error


@contextlib.contextmanager
def _watch(cluster: Cluster, seconds: float) -> Iterator[Callable[[], None]]:
    """Has this process watched by another one, which is told whenever something is done."""
    processes = multiprocessing.get_context("spawn")
    last_work = processes.Value("d", 0.0)
    watched = (cluster, ("ps", "worker"), seconds, last_work)
    watch = processes.Process(target=end_when_out_of_reach, args=watched, daemon=True)
    watch.start()

    def at_work() -> None:
        last_work.value = time.monotonic()

    try:
        yield at_work
    finally:
        watch.kill()


def _nothing() -> None:
    """Is done of what nobody watches."""


def describe_loss(cluster: Cluster, error: str) -> str:
    """What happened, and what to do.

    Args:
      cluster: of this process.
      error: name of what TensorFlow raised.
    """
    if cluster.strategy == "parameter_server":
        return _of_servers(absent(cluster, ("ps",)), error)
    # Who was first cannot be told: all others end as soon as they notice.
    return (
        f"Another process of the cluster is gone, or does not answer. Received: {error}. Expected: "
        "all of its processes. Start every one again with the same command: the run goes on from "
        "its last checkpoint. --v=1 tells more."
    )


def _of_servers(gone: Sequence[str], error: str) -> str:
    """The loss of a worker is none to a chief: what it has lost is a server, and what it held."""
    received = f"nothing from {', '.join(gone)}" if gone else "all answer, one without its memory"
    start = "it again, and this chief" if gone else "this chief again"
    return (
        "A parameter server is gone, and with it the part of the model that it held. Received: "
        f"{received} ({error}). Expected: servers that last as long as the chief. Start {start}, "
        "with the same command: the run goes on from its last checkpoint. --v=1 tells more."
    )


def _hide_native_errors() -> None:
    """From here on only Python writes to standard error.

    Everything that TensorFlow still holds on a lost process fails once more when it is let go,
    in hundreds of lines after the sentence that says what to do.
    """
    sys.stderr.flush()
    shown = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    sys.stderr = shown
