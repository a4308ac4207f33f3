"""What is the same on one device and under `tf.distribute`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def all_reduce_sum(value: tf.Tensor) -> tf.Tensor:
    """Sum over the replicas, on each of them; the value itself on one device.

    Workers of a `ParameterServerStrategy` are out of step: there is nothing to sum.
    """
    context = tf.distribute.get_replica_context()
    # Without a replica this is cross-replica: the value is the global one already.
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def all_gather(value: tf.Tensor) -> tf.Tensor:
    """Values of all replicas in one, along the first axis; the value itself on one device."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_gather(value, axis=0)


def has_rivals() -> bool:
    """Whether other workers may change a row between the time it is read and it is written."""
    return isinstance(
        tf.distribute.get_strategy(),
        tf.distribute.ParameterServerStrategy
        | tf.compat.v1.distribute.experimental.ParameterServerStrategy,
    )


def in_xla() -> bool:
    """Whether what is traced now is compiled by XLA, as on a TPU: it lacks some operations."""
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def is_on_cpu() -> bool:
    """Whether what is traced now runs on CPUs, operation by operation."""
    return not in_xla() and not tf.config.list_logical_devices("GPU")


def is_in_charge(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what all processes of the strategy have learned."""
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return True  # only its coordinator has a strategy
    return bool(strategy.extended.should_checkpoint)


def from_chief(strategy: tf.distribute.Strategy, value: int) -> int:
    """What the process in charge calls this with, in each of them; waits until all have.

    Args:
      strategy: of the processes.
      value: of this process.
    """
    if strategy.num_replicas_in_sync == 1:
        return value

    return int(_agreement(strategy)(tf.constant(value, tf.int64)))


@functools.lru_cache(maxsize=2)
def _agreement(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    def of_replica(value: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.where(tf.equal(replica, 0), value, 0)

    @tf.function
    def of_all(value: tf.Tensor) -> tf.Tensor:
        values = strategy.run(of_replica, args=(value,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    return of_all


def update_together(
    update: Callable[..., None], variables: Sequence[tf.Variable], *args: object
) -> None:
    """Calls `update(variables, *args)`, which may assign to the variables.

    Under `tf.distribute` it is called for each replica, with the replica's own copies of variables
    and arguments. Copies stay equal where every replica computes the same: of variables that are
    equal, and of what `all_reduce_sum` and `all_gather` return.

    Args:
      update: of variables and arguments; returns nothing.
      variables: at least one.
      *args: tensors, variables, and sequences of them.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        update(variables, *args)
        return

    def merged(
        strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable], args: Sequence[object]
    ) -> None:
        def of_replica(
            _: tf.Variable, variables: Sequence[tf.Variable], args: Sequence[object]
        ) -> tf.Tensor:
            update(variables, *args)
            return tf.constant(0)  # the strategy wants something to group

        strategy.extended.update(variables[0], of_replica, args=(variables, args), group=False)

    context.merge_call(merged, args=(list(variables), list(args)))
