r"""Reads, parses and shuffles shards for trainers, once for all that read the same order at a time.

python -m data_pipeline.input_service --port=7077
python -m data_pipeline.input_service --port=7077 --host=data-0 --work_dir=/var/lib/clsd_input \
    --cache_mb=4096 --keep_minutes=30
python -m data_pipeline.input_service --role=worker --dispatcher=grpc://data-0:7077 --host=data-1

Prints the address that `--input_service` of `clsd-train` and `clsd-compare` takes, and ends with
SIGTERM or Ctrl-C. The shards have to lie under the same path as for the trainers. A further worker
is a spare: each of them reads everything, and trainers go on while one of them lives. Trainers
see the batches that they would have read without it, or say that it is gone;
docs/distributed.md says when it pays.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import time
from collections.abc import Iterator

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main
from data_pipeline.directories import only_writer
from data_pipeline.progress import is_quiet
from data_pipeline.service_client import InputService

_PORT = flags.DEFINE_integer("port", 0, "To listen on; 0: any that is free.", 0, 65535)
_HOST = flags.DEFINE_string(
    "host", "localhost", "Name of this machine, by which trainers and dispatcher reach it."
)
_ROLE = flags.DEFINE_enum(
    "role",
    "both",
    ["both", "dispatcher", "worker"],
    "What this process is. The dispatcher knows who reads what, workers read; both: one of each.",
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher", None, "Address that a dispatcher has printed, for --role=worker."
)
_WORK_DIR = flags.DEFINE_string(
    "work_dir",
    None,
    "Where the dispatcher keeps its journal. Started again with it, and on the same port, it knows "
    "its trainers.",
)
_CACHE_MB = flags.DEFINE_integer(
    "cache_mb",
    512,
    "Batches that a worker remembers of each order, in MiB: how far trainers may be apart.",
    1,
)
_KEEP_MINUTES = flags.DEFINE_float(
    "keep_minutes", 10.0, "How long an order is remembered that nobody reads.", 0.1
)
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_MIB = 1 << 20
_HEARTBEAT_MS = 1000
_ASK_SECONDS = 1.0
# How long a worker waits for a dispatcher that it has met and that is gone.
_DISPATCHER_TIMEOUT_MS = 3_600_000


def main(argv: list[str]) -> None:
    """Serves by the flags until a signal comes."""
    del argv
    if (_ROLE.value == "worker") != (_DISPATCHER.value is not None):
        raise ValueError(
            "A worker of its own joins a dispatcher. Received: "
            f"--role={_ROLE.value}, --dispatcher={_DISPATCHER.value}. Expected: --role=worker with "
            "--dispatcher=grpc://host:port, or neither."
        )
    if _WORK_DIR.value is not None and _ROLE.value == "worker":
        raise ValueError(
            "--work_dir is the dispatcher's. Received: --work_dir with --role=worker. Expected: "
            "one of them; leave --work_dir out."
        )
    dispatcher = _DISPATCHER.value and InputService(_DISPATCHER.value)
    _require_free(_PORT.value)
    with _held_back(_SIGNALS), _journal(_WORK_DIR.value):
        if dispatcher and not _is_met(dispatcher):
            return
        load_tensorflow(start_runtime=False)
        servers = _start()
        if not is_quiet():
            print(f"Input service ({_ROLE.value}), until SIGTERM or Ctrl-C:", flush=True)
        print(_address(servers), flush=True)
        signal.sigwait(_SIGNALS)
        for server in reversed(servers):  # workers first
            server.stop()


def _is_met(dispatcher: InputService) -> bool:
    """Waits for a dispatcher, which TensorFlow's worker would do deaf. False: a signal came."""
    is_told = is_quiet()
    while not dispatcher.has_dispatcher():
        if not is_told:
            print(f"Waiting for the dispatcher at {dispatcher.address}.", flush=True)
            is_told = True
        if signal.sigpending() & _SIGNALS:
            return False
        time.sleep(_ASK_SECONDS)
    return True


def _start() -> list:
    """The servers of this process, dispatcher first."""
    import tensorflow as tf
    from tensorflow.core.protobuf import service_config_pb2 as configs

    api, servers = tf.data.experimental.service, []
    port, dispatcher = _PORT.value, _DISPATCHER.value
    if _ROLE.value != "worker":
        keep_ms = int(60_000 * _KEEP_MINUTES.value)
        config = configs.DispatcherConfig(
            port=port,
            protocol="grpc",
            work_dir=_WORK_DIR.value or "",
            fault_tolerant_mode=_WORK_DIR.value is not None,
            job_gc_check_interval_ms=max(1000, keep_ms // 10),
            job_gc_timeout_ms=keep_ms,
        )
        servers.append(api.DispatchServer(config))
        port, dispatcher = 0, servers[0].target
    if _ROLE.value != "dispatcher":
        # The message, since the class of the public API does not know the size of the cache.
        config = configs.WorkerConfig(
            port=port,
            protocol="grpc",
            dispatcher_address=dispatcher.partition("://")[2],
            worker_address=f"{_HOST.value}:%port%",
            data_transfer_address=f"{_HOST.value}:%dts_port%",
            heartbeat_interval_ms=_HEARTBEAT_MS,
            dispatcher_timeout_ms=_DISPATCHER_TIMEOUT_MS,
            cross_trainer_cache_size_bytes=_CACHE_MB.value * _MIB,
        )
        servers.append(api.WorkerServer(config))
    return servers


def _address(servers: list) -> str:
    """What trainers are told; of a worker of its own, the dispatcher's."""
    if _ROLE.value == "worker":
        return _DISPATCHER.value
    return f"grpc://{_HOST.value}:{servers[0].target.rpartition(':')[2]}"


@contextlib.contextmanager
def _held_back(signals: frozenset[signal.Signals]) -> Iterator[None]:
    """Keeps signals for `sigwait`, from this thread and all that it starts.

    A handler that sets an event is too late for a thread that is just about to wait for it: the
    signal would be forgotten until the next one.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        while signal.sigpending() & signals:  # a second Ctrl-C, which would end the end
            signal.sigwait(signals)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _journal(directory: str | None) -> contextlib.AbstractContextManager[None]:
    """Makes the directory, which belongs to one dispatcher at a time."""
    if directory is None:
        return contextlib.nullcontext()
    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    return only_writer(directory)


def _require_free(port: int) -> None:
    """Raises OSError if another process listens on `port`, which gRPC would share with it."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise OSError(
            f"Nothing can listen there. Received: --port={port}, which gave: {error.strerror}. "
            "Expected: a port that no other process has; --port=0 takes one that is free."
        ) from error


def cli() -> None:
    """Entry point of `clsd-input-service`."""
    run_main(main)


if __name__ == "__main__":
    cli()
