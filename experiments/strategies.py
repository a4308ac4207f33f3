"""How a run is spread over devices and processes: `tf.distribute`, and who reads and writes what.

A run does the same in every process that trains in step. Three things differ, and they are here:
what a process reads, that only the chief writes, and that all agree on what was there before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Unpack

import tensorflow as tf

from clsd_tf import ClickConfidenceModel
from clsd_tf.distributed import from_chief, is_in_charge
from data_pipeline.global_batches import DatasetOptions, replica_batches
from experiments.cluster import Cluster
from experiments.parameter_servers import Workers, connect
from experiments.presence import tell_who_is_missing


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The processes and devices of a run.

    Attributes:
      cluster: what this process is among others.
      strategy: of `tf.distribute`; that of a single device by default.
      at_work: called whenever workers of parameter servers have trained on a batch.
    """

    cluster: Cluster = dataclasses.field(default_factory=Cluster)
    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)
    at_work: Callable[[], None] = lambda: None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes."""
        return is_in_charge(self.strategy)

    @property
    def reads_shares(self) -> bool:
        """Whether several processes divide the rows, instead of one that reads them all."""
        return self.cluster.strategy == "multi_worker"

    def fit(
        self, model: ClickConfidenceModel, rows: tf.data.Dataset, *, batches_at_once: int, **kwargs
    ) -> None:
        """`model.fit` for an epoch, by whoever trains.

        Args:
          model: built in the scope of the strategy.
          rows: from `batches`.
          batches_at_once: after how many batches all workers wait for each other, and callbacks are
            called, with parameter servers.
          **kwargs: of `fit`.
        """
        if self.cluster.strategy == "parameter_server":
            workers = Workers(model, len(self.cluster.addresses["worker"]), self.at_work)
            workers.fit(rows, batches_at_once=batches_at_once, **kwargs)
        else:
            model.fit(rows, verbose=0, **kwargs)

    def agree(self, value: int) -> int:
        """The chief's `value`, in every process; waits until all of them ask."""
        return from_chief(self.strategy, value)

    @contextlib.contextmanager
    def written(self, directory: pathlib.Path) -> Iterator[pathlib.Path]:
        """Where this process writes what only the chief's counts of: `directory`, or nowhere.

        Values that are means over replicas are computed by all of them, so that all have to write.
        After it, what the chief has written is there for every process.
        """
        if self.is_chief:
            yield directory
        else:
            with tempfile.TemporaryDirectory() as scratch:
                yield pathlib.Path(scratch)
        self.agree(0)

    def batches(
        self,
        directory: str | pathlib.Path,
        split: str,
        batch_size: int,
        *,
        num_shares: int = 1,
        checked: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda rows: rows,
        **options: Unpack[DatasetOptions],
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """What the replicas of this process read, for `fit` with a number of steps.

        Args:
          directory: prepared data set.
          split: of it.
          batch_size: rows of all replicas together.
          num_shares: that the rows are divided into; of a split that is not trained on it may be
            the number of replicas.
          checked: looks at the rows and returns them.
          **options: see `DatasetOptions`.
        """

        def read(num_replicas: int = 1, replicas: Sequence[int] = (0,)) -> tf.data.Dataset:
            return checked(
                replica_batches(
                    directory,
                    split,
                    batch_size,
                    num_shares=num_shares,
                    num_replicas=num_replicas,
                    replicas=replicas,
                    **options,
                )
            )

        if not self.reads_shares:
            return read()

        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            total = context.num_replicas_in_sync
            each = total // context.num_input_pipelines
            first = context.input_pipeline_id * each
            return read(num_replicas=total, replicas=range(first, first + each))

        return self.strategy.distribute_datasets_from_function(of_process)


def start(
    cluster: Cluster,
    *,
    min_shard_bytes: int = 1 << 18,
    connect_seconds: float = 600.0,
    tpu: str = "",
    deterministic: bool = False,
    at_work: Callable[[], None] = lambda: None,
) -> Distribution:
    """Sets up what a process trains on; before anything else is done with TensorFlow.

    Args:
      cluster: what this process is among others, which it waits for.
      min_shard_bytes: see `experiments.parameter_servers.connect`.
      connect_seconds: how long the chief of parameter servers waits for the others.
      tpu: address of a TPU, for the strategy "tpu".
      deterministic: whether the same run has the same result, bit by bit.
      at_work: called when the others are there, and see `Distribution`.

    Raises:
      ValueError: there is no TPU at the address, or the strategy does not repeat.
      RuntimeError: others do not answer in time.
    """
    if deterministic and cluster.strategy == "parameter_server":
        raise ValueError(
            "Workers of parameter servers go their own pace, and no two runs are alike. Received: "
            "--deterministic with --strategy=parameter_server. Leave one of them out."
        )
    if cluster.addresses:
        # Variables on several machines are saved by a function that is traced for each checkpoint.
        tf.get_logger().setLevel("ERROR")
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if cluster.strategy == "multi_worker":
        tell_who_is_missing(cluster, ("chief", "worker"))  # all wait for all, and cannot say so
    strategies = {
        "default": tf.distribute.get_strategy,
        "mirrored": tf.distribute.MirroredStrategy,
        "multi_worker": tf.distribute.MultiWorkerMirroredStrategy,
        "parameter_server": lambda: connect(
            cluster, min_shard_bytes=min_shard_bytes, seconds=connect_seconds
        ),
        "tpu": lambda: _on_tpu(tpu),
    }
    distribution = Distribution(cluster, strategies[cluster.strategy](), at_work)
    at_work()
    return distribution


def _on_tpu(address: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"There is no TPU. Received: --tpu={address!r}, which gave: {error}. Expected: 'local' "
            "on a machine with a TPU, or the name or address of one."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
