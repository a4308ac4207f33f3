"""The input service as its clients see it: an address, and whether anything answers there.

The clients of tf.data service wait without end for one that is gone. Here it is asked by its own
protocol, with a limit of time. No TensorFlow is imported.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where it is used: few trainers ask a service, and all import this
    import grpc

_SCHEME = "grpc://"
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.5
_ASK_SECONDS = 1.0
_LIST_WORKERS = "/tensorflow.data.DispatcherService/GetWorkers"
_LIST_TASKS = "/tensorflow.data.WorkerService/GetWorkerTasks"
_MEND = (
    "Expected: the address that `clsd-input-service` prints, as grpc://host:port. Start it and "
    "give the same command again, or leave --input_service out to read without it."
)


class InputServiceError(RuntimeError):
    """The input service does not answer, or cannot do what it was asked."""


class InputService:
    """A `clsd-input-service` that was named by its address.

    Args:
      address: "grpc://host:port".
      patience_seconds: how long it may be gone while a trainer reads, or, before that, how long a
        dispatcher may be without workers.

    Raises:
      ValueError: it is no such address.
    """

    def __init__(self, address: str, *, patience_seconds: float = 20.0):
        """See the class."""
        host, _, port = address.removeprefix(_SCHEME).rpartition(":")
        is_one = address.startswith(_SCHEME) and host and port.isdecimal()
        if not is_one or "/" in host or not 0 < int(port) < 65536:
            raise ValueError(f"The input service has an address. Received: {address!r}. {_MEND}")
        self.address = address
        self.patience_seconds = patience_seconds
        self._gone_since: float | None = None
        self._ask_again = 0.0

    def require(self) -> None:
        """Waits for a service that is just starting.

        Raises:
          InputServiceError: it cannot be read from.
        """
        stop = time.monotonic() + self.patience_seconds
        while (trouble := self.trouble()) is not None:
            if not isinstance(trouble, _NoWorker) or time.monotonic() >= stop:
                raise InputServiceError(
                    f"The input service cannot be read from. Received: {trouble} at "
                    f"{self.address}. {_MEND}"
                )
            time.sleep(_POLL_SECONDS)

    def is_lost(self) -> bool:
        """Whether it has been gone for longer than `patience_seconds`, as asked now and before."""
        if time.monotonic() >= self._ask_again:
            is_gone = self.trouble() is not None
            now = time.monotonic()
            self._ask_again = now + _ASK_SECONDS
            self._gone_since = (self._gone_since or now) if is_gone else None
        gone_since = self._gone_since
        return gone_since is not None and time.monotonic() - gone_since >= self.patience_seconds

    def has_dispatcher(self) -> bool:
        """Whether its dispatcher answers, with workers or without.

        Raises:
          InputServiceError: something else answers there.
        """
        trouble = self.trouble()
        if isinstance(trouble, _OtherServer):
            raise InputServiceError(
                f"A worker joins a dispatcher. Received: {trouble} at {self.address}. Expected: "
                "the address that `clsd-input-service --role=dispatcher` prints, as grpc://host:port."
            )
        return isinstance(trouble, _NoWorker | None)

    def trouble(self) -> str | None:
        """What is wrong with it now; None if its dispatcher and one of its workers answer."""
        import grpc

        try:
            answer = _call(self.address.removeprefix(_SCHEME), _LIST_WORKERS)
            workers = [entry.address for entry in _workers_message().FromString(answer).workers]
        except grpc.RpcError as error:
            return _told(error)
        except ValueError:  # protobuf's DecodeError is one
            return _OtherServer("an answer of another kind of server")
        for address in workers:
            try:
                _call(address, _LIST_TASKS)
                return None
            except grpc.RpcError:
                continue  # it has left, and may be on the list for long
        return _NoWorker(f"a dispatcher without a worker that answers ({len(workers)} known)")


def ask_service(address: str | None) -> InputService | None:
    """The service that `--input_service` names, which has answered; None without an address.

    Raises:
      ValueError: it is no address.
      InputServiceError: nothing answers there.
    """
    if address is None:
        return None
    service = InputService(address)
    service.require()
    return service


class _NoWorker(str):
    """Trouble that passes where a service is just starting."""


class _OtherServer(str):
    """Trouble that does not pass."""


def _call(address: str, method: str) -> bytes:
    """Calls a method without arguments. Raises grpc.RpcError."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        return channel.unary_unary(method)(b"", timeout=_ANSWER_SECONDS)


def _told(error: grpc.RpcError) -> str:
    import grpc

    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return "no connection"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {_ANSWER_SECONDS:g} s"
    return _OtherServer(f"an answer of another kind of server ({error.code().name})")


@functools.cache
def _workers_message() -> Any:
    """The answer to `GetWorkers`: its fields that are read here, as TensorFlow numbers them."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    string, message, repeated = 9, 11, 3
    file = descriptor_pb2.FileDescriptorProto(name="clsd_workers.proto", package="clsd")
    worker = file.message_type.add(name="Worker")
    worker.field.add(name="address", number=1, type=string, label=1)
    workers = file.message_type.add(name="Workers")
    workers.field.add(
        name="workers", number=1, type=message, label=repeated, type_name=".clsd.Worker"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("clsd.Workers"))
