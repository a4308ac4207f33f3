"""Batches of an order, taken from the input service as far as it has them.

The service is a cache and nothing depends on it but cost. Every batch that it hands out carries its
number in the order, and a trainer takes it only if that is the one that comes next:

    the next number   it is trained on
    a lower one       is dropped: a worker was started again and begins anew
    a higher one      the service has forgotten what comes next: this trainer came too late for its
                      window, or is slower than the others. It reads the rest by itself
    no batch at all   for longer than the service's patience: an error, where tf.data service would
                      wait without end

So a trainer sees the batches that it would have read without the service, or says that it is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline.batch_sizes import empty_batches
from data_pipeline.service_client import InputService, InputServiceError

# Numbers beside those of batches: news of the service. "Lost" is above all others.
_NO_MORE, _WELL, _LOST = -2, -1, np.iinfo(np.int64).max
# What waits for news ends no sooner than they come.
_NEWS_SECONDS = 0.1
# An iterator that has not asked for news for so long is gone, or, before the first time, was never.
_QUIET_SECONDS, _BEGIN_SECONDS = 2.0, 10.0
# A service that is asked answers, or is given up, in less.
_END_SECONDS = 30.0
_python_ends = threading.Event()


@dataclasses.dataclass(frozen=True)
class Order:
    """Batches whose content follows from their number.

    Attributes:
      decided_by: all that decides rows, order and columns; trainers that share it share a reading.
        Values of JSON.
      first: number of the batch with which a reading by the service begins.
      start: number of the first batch that is wanted here.
      stop: number after the last one.
      batches_from: number, an int or an int64 scalar -> the batches from there to `stop`.
    """

    decided_by: dict[str, object]
    first: int
    start: int
    stop: int
    batches_from: Callable[[int | tf.Tensor], tf.data.Dataset]

    @property
    def name(self) -> str:
        """Identifies it for the service."""
        decisive = {**self.decided_by, "first": self.first, "stop": self.stop}
        text = json.dumps({**decisive, "tensorflow": tf.__version__}, sort_keys=True)
        return "clsd-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def served_batches(service: InputService, order: Order) -> tf.data.Dataset:
    """The batches of `order` from `start` to `stop`.

    Args:
      service: that is asked for them.
      order: of the batches.

    Raises:
      InputServiceError: the service does not answer.
    """
    if order.start == order.stop:
        return order.batches_from(order.start)
    service.require()
    numbered = _with_news(_service_reader(service, order), service)
    start, stop = (tf.constant(number, tf.int64) for number in (order.start, order.stop))

    def compare(expected: tf.Tensor, element: tuple) -> tuple:
        number = element[0]
        after = tf.where(number > expected, stop, expected)
        return tf.where(number == expected, expected + 1, after), (expected, *element)

    def emit(expected: tf.Tensor, number: tf.Tensor, batch: tf.Tensor) -> tf.data.Dataset:
        def rest(_: tf.Tensor) -> tf.data.Dataset:
            told = tf.numpy_function(_tell, [expected, number], tf.int64)
            return order.batches_from(tf.ensure_shape(told, []))

        it = tf.data.Dataset.from_tensors(batch)
        return it.take(_one_if(number == expected)).concatenate(
            _maybe(tf.logical_and(number > expected, expected < stop)).flat_map(rest)
        )

    batches = numbered.scan(start, compare).flat_map(emit)
    # After a `prefetch` the end of the reading does not wait for what is still on its way.
    return batches.prefetch(1).take(order.stop - order.start)


@contextlib.contextmanager
def service_errors(service: InputService | None, directory: str | pathlib.Path) -> Iterator[None]:
    """Says what is wrong with a service that reads `directory` for this process.

    Damaged shards are told by `read_errors`, whoever reads them.

    Raises:
      InputServiceError: instead of `tf.errors.NotFoundError`, `tf.errors.PermissionDeniedError` and
        what is raised when the service is gone.
    """
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        if service is None:
            raise
        cause = error.message.splitlines()[0].rsplit("}} ", 1)[-1]
        raise InputServiceError(
            f"The input service at {service.address} cannot read the data set. Received: {cause}. "
            f"Expected: {pathlib.Path(directory).resolve()} under the same path on its machine, "
            "and a service that remembers its trainers, which takes --work_dir if it is started "
            "again. Mend that, or leave --input_service out; runs go on from their checkpoints."
        ) from error
    except tf.errors.UnknownError as error:
        if service is None or InputServiceError.__name__ not in error.message:
            raise
        raise InputServiceError(
            f"The input service at {service.address} is gone. Received: nothing from it for "
            f"{service.patience_seconds:g} s. Expected: batches. Start it again, or leave "
            "--input_service out, and give the same command: a run goes on from its last "
            "checkpoint, with the same result."
        ) from error


def _service_reader(service: InputService, order: Order) -> Callable[[], tf.data.Dataset]:
    """Makes (number, batch), from wherever the service's window begins; without an end."""
    batches = order.batches_from(order.first)
    # A reading that is shared must not end. What follows the last batch costs nothing.
    end = empty_batches(batches, 1).map(lambda batch: (tf.constant(order.stop, tf.int64), batch))
    endless = batches.enumerate(order.first).concatenate(end.repeat())
    endless = endless.apply(
        tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY)
    )
    options = tf.data.Options()
    options.deterministic = True
    api = tf.data.experimental.service
    # Ids of 32 bits on a network of one site: compression would cost more than it saves.
    dataset_id = api.register_dataset(
        service.address, endless.with_options(options), compression=None, dataset_id=order.name
    )
    trainer = uuid.uuid4().hex
    return lambda: api.from_dataset_id(
        processing_mode=api.ShardingPolicy.OFF,  # each worker has all batches, in order
        service=service.address,
        dataset_id=dataset_id,
        element_spec=endless.element_spec,
        job_name=order.name,
        cross_trainer_cache=api.CrossTrainerCache(trainer_id=trainer),
    )


def _with_news(
    read_service: Callable[[], tf.data.Dataset], service: InputService
) -> tf.data.Dataset:
    """(number, batch), and news of the service between them: (`_WELL` or `_LOST`, no batch).

    The client of tf.data service waits without end for a service that is gone; what waits beside it
    in another thread does not. Batches keep their order, since one thread brings them.
    """
    asked = _Asked()
    _all_asked.append(asked)

    def ask() -> np.int64:
        asked.quiet_at = np.inf
        try:
            if _python_ends.wait(_NEWS_SECONDS):
                asked.is_over = True
                return np.int64(_NO_MORE)
            return np.int64(_LOST if service.is_lost() else _WELL)
        finally:
            asked.quiet_at = time.monotonic() + _QUIET_SECONDS

    empty = tf.nest.map_structure(
        lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), read_service().element_spec[1]
    )

    def news(_: tf.Tensor) -> tuple:
        return tf.ensure_shape(tf.numpy_function(ask, [], tf.int64), []), empty

    def source(index: tf.Tensor) -> tf.data.Dataset:
        # Made here, in each iteration anew: tf.data service refuses to go over one twice.
        read = _maybe(index == 0).flat_map(lambda _: read_service())
        told = _maybe(index == 1).flat_map(lambda _: tf.data.Dataset.range(1 << 62).map(news))
        return read.concatenate(told.take_while(lambda number, _: number != _NO_MORE))

    return tf.data.Dataset.range(2).interleave(
        source, cycle_length=2, num_parallel_calls=2, deterministic=False
    )


class _Asked:
    """How it stands with the iterators that ask for the news of a data set.

    Attributes:
      quiet_at: time from which on nobody is there who asks.
      is_over: whether one was told that there are no more.
    """

    def __init__(self) -> None:
        self.quiet_at = time.monotonic() + _BEGIN_SECONDS
        self.is_over = False

    @property
    def may_come(self) -> bool:
        """Whether somebody asks, or is about to."""
        return not self.is_over and time.monotonic() < self.quiet_at


_all_asked: list[_Asked] = []


@atexit.register
def _end_news() -> None:
    """Ends the asking before Python ends.

    An iterator may live that long, as after an error or Ctrl-C. A thread that asks then would never
    get to run, and who waits for it, to destroy the iterator, would never end.
    """
    if not _all_asked:  # most processes read without a service
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would end the waiting alone
    _python_ends.set()
    stop = time.monotonic() + _END_SECONDS
    while any(asked.may_come for asked in _all_asked) and time.monotonic() < stop:
        time.sleep(0.01)
    time.sleep(_NEWS_SECONDS)  # for what TensorFlow has still to do in Python after a call


def _one_if(condition: tf.Tensor) -> tf.Tensor:
    return tf.where(condition, tf.constant(1, tf.int64), tf.constant(0, tf.int64))


def _maybe(condition: tf.Tensor) -> tf.data.Dataset:
    """One element, or none."""
    return tf.data.Dataset.range(_one_if(condition))


def _tell(expected: np.int64, number: np.int64) -> np.int64:
    """Logs that the rest is read here, and returns where it begins; raises where nothing comes."""
    if number == _LOST:
        raise InputServiceError(f"Received: nothing after batch {expected - 1}.")
    logging.warning(
        "From batch %d on the shards are read without the input service, which is at batch %d for "
        "this trainer. More --cache_mb lets trainers be farther apart.",
        expected,
        number,
    )
    return expected
