"""Batches of an order, taken from the input service as far as it has them.

The service is a cache and nothing depends on it but cost. Every batch that it hands out carries its
number in the order, and a trainer takes it only if that is the one that comes next:

    the next number   it is trained on
    a lower one       is dropped: a worker was started again and begins anew
    a higher one      the service has forgotten what comes next: this trainer came too late for its
                      window, or is slower than the others. It reads the rest by itself
    no batch at all   for longer than the service's patience: the same

So a trainer sees the batches that it would have read without the service, whatever happens to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline.batch_sizes import empty_batches
from data_pipeline.service_client import InputService, InputServiceError

# Numbers beside those of batches: news of the service. "Lost" is above all others.
_WELL, _LOST = -1, np.iinfo(np.int64).max
_ASK_SECONDS = 1.0


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
      service: that is asked for them; one that is known to be gone is not.
      order: of the batches.

    Raises:
      InputServiceError: the service does not answer, and has not before.
    """
    if order.start == order.stop or not service.require():
        return order.batches_from(order.start)
    numbered = _with_news(_from_service(service, order), service)
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

    return numbered.scan(start, compare).flat_map(emit).take(order.stop - order.start)


@contextlib.contextmanager
def service_errors(service: InputService | None, directory: str | pathlib.Path) -> Iterator[None]:
    """Says what is wrong when a service that reads `directory` for this process does not find it.

    Damaged shards are told by `read_errors`, whoever reads them.

    Raises:
      InputServiceError: instead of `tf.errors.NotFoundError` and `tf.errors.PermissionDeniedError`.
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
            "again. Mend that, or leave --input_service out; a run goes on from its last checkpoint."
        ) from error


def _from_service(service: InputService, order: Order) -> tf.data.Dataset:
    """(number, batch), from wherever the service's window begins; without an end."""
    batches = order.batches_from(order.first)
    numbered = batches.enumerate(order.first)
    # A reading that is shared must not end. What follows the last batch costs nothing.
    end = empty_batches(batches, 1).map(lambda batch: (tf.constant(order.stop, tf.int64), batch))
    endless = numbered.concatenate(end.repeat())
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
    return api.from_dataset_id(
        processing_mode=api.ShardingPolicy.OFF,  # each worker has all batches, in order
        service=service.address,
        dataset_id=dataset_id,
        element_spec=endless.element_spec,
        job_name=order.name,
        cross_trainer_cache=api.CrossTrainerCache(trainer_id=uuid.uuid4().hex),
    )


def _with_news(numbered: tf.data.Dataset, service: InputService) -> tf.data.Dataset:
    """The same, with news of the service between the batches: (`_WELL` or `_LOST`, no batch).

    The client of tf.data service waits without end for a service that is gone; what waits beside it
    in another thread does not. Batches keep their order, since one thread brings them.
    """

    def ask() -> np.int64:
        time.sleep(_ASK_SECONDS)
        return np.int64(_LOST if service.is_lost() else _WELL)

    empty = tf.nest.map_structure(
        lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), numbered.element_spec[1]
    )

    def news(_: tf.Tensor) -> tuple:
        return tf.ensure_shape(tf.numpy_function(ask, [], tf.int64), []), empty

    def source(index: tf.Tensor) -> tf.data.Dataset:
        read = _maybe(index == 0).flat_map(lambda _: numbered)
        asked = _maybe(index == 1).flat_map(lambda _: tf.data.Dataset.range(1 << 62).map(news))
        return read.concatenate(asked)

    return tf.data.Dataset.range(2).interleave(
        source, cycle_length=2, num_parallel_calls=2, deterministic=False
    )


def _one_if(condition: tf.Tensor) -> tf.Tensor:
    return tf.where(condition, tf.constant(1, tf.int64), tf.constant(0, tf.int64))


def _maybe(condition: tf.Tensor) -> tf.data.Dataset:
    """One element, or none."""
    return tf.data.Dataset.range(_one_if(condition))


def _tell(expected: np.int64, number: np.int64) -> np.int64:
    """Logs why the rest is read here; returns where it begins."""
    reason = "is gone" if number == _LOST else f"has forgotten it and is at batch {number}"
    logging.warning(
        "From batch %d on the shards are read without the input service, which %s.",
        expected,
        reason,
    )
    return expected
