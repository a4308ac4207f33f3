"""Training with parameter servers: workers take batches at their own pace, servers hold variables.

The chief reads the rows and hands each batch to whichever worker is free. So every batch is trained
on by exactly one worker, in the order of one process, and the position in the data is a number of
batches. If a worker dies, its batch is handed to another one: of what it had done of it already,
the servers may have taken a part. Between two checkpoints nobody waits for anybody; before one, all
batches are finished.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf import ClickConfidenceModel
from clsd_tf.progressive import FirstPass
from experiments.cluster import Cluster
from experiments.presence import answers, wait_for

# Batches that are handed out and not finished, for each worker: one is trained on, others travel.
_IN_FLIGHT = 3
_POLL_SECONDS = 0.5
_LEAVE_SECONDS = 120.0

Logs = dict[str, float]


def connect(
    cluster: Cluster, *, min_shard_bytes: int, seconds: float
) -> tf.distribute.ParameterServerStrategy:
    """The strategy of the chief, who waits for all others.

    Args:
      cluster: of this process.
      min_shard_bytes: size of a part of a table, at least; there are no more parts than servers.
      seconds: to wait, at most.

    Raises:
      RuntimeError: others do not answer in time.
    """
    # TensorFlow would wait for ever, and not say for whom.
    wait_for(cluster, ("worker", "ps"), seconds)
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes, max_shards=len(cluster.addresses["ps"])
    )
    return tf.distribute.ParameterServerStrategy(_resolver(cluster), partitioner)


def serve(cluster: Cluster, is_over: Callable[[], bool]) -> None:
    """Works for the chief, as a worker or a server of parameters, until the run is over.

    Args:
      cluster: of this process.
      is_over: whether the chief has written its results.
    """
    resolver = _resolver(cluster)
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=cluster.task, task_index=cluster.index, protocol="grpc"
    )
    while not is_over():
        time.sleep(_POLL_SECONDS)
    # A chief that misses somebody while it is leaving waits for them to come back.
    stop = time.monotonic() + _LEAVE_SECONDS
    while time.monotonic() < stop and answers(cluster.addresses["chief"][0]):
        time.sleep(_POLL_SECONDS)
    del server


class Workers:
    """Trains a model with the workers of a `ParameterServerStrategy`.

    Args:
      model: built and compiled in the scope of the strategy.
      num_workers: of the cluster.
      at_work: called after each batch.
    """

    def __init__(self, model: ClickConfidenceModel, num_workers: int, at_work: Callable[[], None]):
        """See the class."""
        self._model, self._at_work = model, at_work
        strategy = model.distribute_strategy
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self._in_flight = _IN_FLIGHT * num_workers
        self._steps: dict[str, Callable] = {}

    def fit(
        self,
        rows: tf.data.Dataset,
        *,
        initial_epoch: int,
        epochs: int,
        steps_per_epoch: int,
        callbacks: Sequence[keras.callbacks.Callback],
        batches_at_once: int,
        validation_data: tf.data.Dataset | None = None,
        validation_steps: int | None = None,
    ) -> None:
        """Like `fit` of Keras, for one epoch.

        Callbacks are called after every `batches_at_once` batches, as by Keras where a step of the
        host stands for several of the device.
        """
        called = keras.callbacks.CallbackList(
            [*callbacks, FirstPass(self._model.progressive)], model=self._model
        )
        called.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            called.on_epoch_begin(epoch)
            self._model.reset_metrics()
            batches, done, logs = iter(rows), 0, {}
            train = self._step("train_step", rows)
            while done < steps_per_epoch:
                called.on_train_batch_begin(done)
                count = min(batches_at_once, steps_per_epoch - done)
                logs = self._run(train, batches, count)
                done += count
                called.on_train_batch_end(done - 1, logs)
            if validation_data is not None:
                test = self._step("test_step", validation_data)
                with self._model.counted_clicks_kept():
                    self._model.reset_metrics()
                    judged = self._run(test, iter(validation_data), validation_steps)
                logs |= {f"val_{name}": value for name, value in judged.items()}
            called.on_epoch_end(epoch, logs)
        called.on_train_end()

    def _step(self, name: str, rows: tf.data.Dataset) -> Callable:
        """A step of the model as a graph, traced once for batches of any size."""
        if name not in self._steps:
            step, strategy = getattr(self._model, name), self._model.distribute_strategy
            self._steps[name] = tf.function(
                lambda *batch: strategy.run(step, (batch,)),
                input_signature=rows.element_spec,
                autograph=False,
            )
        return self._steps[name]

    def _run(self, step: Callable, batches: tf.data.Iterator, count: int) -> Logs:
        """Hands out so many batches, waits until all are finished, and returns the metrics."""
        handed_out: collections.deque = collections.deque()
        for _ in range(count):
            if len(handed_out) >= self._in_flight:
                handed_out.popleft().fetch()
                self._at_work()
            handed_out.append(self._coordinator.schedule(step, args=next(batches)))
        self._coordinator.join()
        self._at_work()
        return {name: float(value) for name, value in handed_out[-1].fetch().items()}


def _resolver(cluster: Cluster) -> tf.distribute.cluster_resolver.ClusterResolver:
    spec = tf.train.ClusterSpec({task: list(hosts) for task, hosts in cluster.addresses.items()})
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=cluster.task, task_id=cluster.index, rpc_layer="grpc"
    )
