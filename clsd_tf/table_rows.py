"""Rows of embedding tables: how they are read, and how a training step reads each of them once.

To read a row of a large table is to wait for memory. Where a step is traced as a graph for one CPU
replica, each row is read once, spread to where it is wanted, gets the sum of its gradients, and
reaches the optimizer, which need not read it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import tensorflow as tf

from clsd_tf.distributed import has_rivals, in_xla, is_on_cpu

_MARK = "_clsd_tf_distinct"
_ONLY_READS = "_clsd_tf_only_reads"
_KNOWN = "_clsd_tf_known_rows"
_VIEWS = frozenset({"ExpandDims", "Identity", "Reshape", "Squeeze"})
_READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


def read_rows(table: tf.Variable | tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a table; its gradient is sparse.

    `tf.gather_nd` takes two thirds of the time of `tf.gather` where a table is larger than the
    caches, as those of ids are.

    Args:
      table: [rows, ...], any dtype, or a variable that a strategy has cut.
      rows: int64, of any shape.

    Returns:
      The shape of `rows`, and then that of a row.

    Raises:
      tf.errors.InvalidArgumentError: there is no such row; on a GPU such rows are zeros.
    """
    # Of what lies on parameter servers, `gather_nd` would fetch the whole table; XLA has none.
    if has_rivals() or hasattr(table, "variables") or in_xla():
        return tf.nn.embedding_lookup(table, rows)
    read = tf.gather_nd(table, tf.reshape(rows, [-1, 1]))
    if rows.shape.rank == 1:
        return read
    if rows.shape.rank and rows.shape[1:].is_fully_defined():
        return tf.reshape(read, [-1, *rows.shape[1:], *table.shape[1:]])
    return tf.reshape(read, tf.concat([tf.shape(rows), table.shape[1:]], axis=0))


def finds_distinct_rows() -> bool:
    """Whether rows are read once where this is called.

    Replicas put their gradients together, which repeats rows again; XLA and GPUs lack the product.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return tf.inside_function() and is_on_cpu() and replicas == 1 and not has_rivals()


def distinct_rows(
    vocabularies: Iterable[Mapping[str, tf.Tensor]],
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Finds what repeats among the rows that columns read.

    Args:
      vocabularies: for each, column -> the rows that it reads, int64 [ids]. No row is of two
        vocabularies, so that each is searched by itself: a small hash stays in the cache. An id
        beyond its vocabulary would be of another, and one of their gradients lost.

    Returns:
      The rows, int64 [distinct], each once; column -> where its rows are among them, int32 [ids].
    """
    found, first = [], tf.constant(0)
    places: dict[str, tf.Tensor] = {}
    for columns in vocabularies:
        rows, at = tf.unique(tf.concat([*columns.values()], axis=0))
        cut = tf.split(at + first, [tf.size(column) for column in columns.values()])
        places.update(zip(columns, cut, strict=True))
        found.append(rows)
        first += tf.size(rows)
    rows = tf.identity(tf.concat(found, axis=0))
    rows.op._set_attr(_MARK, tf.compat.v1.AttrValue(b=True))
    return rows, places


def known_distinct_rows() -> dict[Hashable, tuple[tf.Tensor, list[tf.Tensor]]]:
    """What was found of `distinct_rows` in the graph of the moment, to be found once."""
    # In the graph, with which it goes: a dictionary of graphs would keep them.
    graph = tf.compat.v1.get_default_graph()
    if not hasattr(graph, _KNOWN):
        setattr(graph, _KNOWN, {})
    return getattr(graph, _KNOWN)


def are_distinct(rows: tf.Tensor) -> bool:
    """Whether these are `distinct_rows`, by the graph that they are in."""
    return _origin(rows) is not None


@tf.custom_gradient
def spread(read: tf.Tensor, *places: tf.Tensor) -> tuple[list[tf.Tensor], Callable]:
    """Puts rows to where they are wanted; the gradient of a row is the sum over its places.

    Args:
      read: float [distinct, dim].
      *places: int [ids] each.

    Returns:
      For each of `places`, float [ids, dim].
    """
    # As in `read_rows`, and the index is small enough.
    wanted = [tf.gather_nd(read, place[:, tf.newaxis]) for place in places]

    def gradient(*upstream: tf.Tensor | tf.IndexedSlices) -> tuple[tf.Tensor | None, ...]:
        count = tf.shape(read, tf.int64)[0]
        sums = [
            sum_by_place(tf.convert_to_tensor(values), place, count)
            for values, place in zip(upstream, places, strict=True)
        ]
        return tf.add_n(sums), *(None for _ in places)

    return wanted, gradient


def sum_by_place(values: tf.Tensor, places: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Adds up vectors by their place.

    A product with a sparse matrix that has a one for each vector: on a CPU the sums are those of
    `tf.math.unsorted_segment_sum`, term by term, in half the time or less.

    Args:
      values: float [vectors, dim].
      places: int [vectors], each in [0, count).
      count: int64 scalar.

    Returns:
      Like `values`, [count, dim].
    """
    return sparse_product(ones_at(places, count), values, transpose=True)


def ones_at(places: tf.Tensor, count: tf.Tensor) -> tf.SparseTensor:
    """A matrix [vectors, count] with a one in each row, at its place: int [vectors]."""
    vectors = tf.size(places, tf.int64)
    return tf.SparseTensor(
        tf.stack([tf.range(vectors), tf.cast(places, tf.int64)], axis=1),
        tf.ones([vectors]),
        tf.stack([vectors, count]),
    )


def sparse_product(
    matrix: tf.SparseTensor, vectors: tf.Tensor, *, transpose: bool = False
) -> tf.Tensor:
    """`matrix @ vectors`, or its transpose by them, summed in float32 or more."""
    kind = tf.float64 if vectors.dtype == tf.float64 else tf.float32
    matrix = tf.SparseTensor(matrix.indices, tf.cast(matrix.values, kind), matrix.dense_shape)
    product = tf.sparse.sparse_dense_matmul(matrix, tf.cast(vectors, kind), adjoint_a=transpose)
    return tf.cast(product, vectors.dtype)


def reread_rows(table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """`read_rows`, without a gradient, of what this graph may have at hand.

    Rows that it has read it reads again only if the table was written to since, and not if these
    rows are what was written last.

    Args:
      table: [rows, ...].
      rows: int64 [ids].
    """
    origin = _origin(rows)
    # What an inner graph writes, this one does not see.
    if origin is not None and origin.graph is tf.compat.v1.get_default_graph():
        users = origin.graph.capture(table.handle).consumers()
        if writers := {user.name for user in users if not _only_reads(user)}:
            # Operations are listed as they were traced, and writers run in that order.
            last = [op for op in origin.graph.get_operations() if op.name in writers][-1]
            if last.type == "ResourceScatterUpdate" and _origin(last.inputs[1]) is origin:
                return last.inputs[2]
            return read_rows(table, rows)
        for user in users:
            if user.type == "ResourceGatherNd" and _origin(user.inputs[1]) is origin:
                return user.outputs[0]
    return read_rows(table, rows)


@contextlib.contextmanager
def only_reading(tables: Sequence[tf.Variable]) -> Iterator[None]:
    """Says of what is traced within that it does not write to tables.

    Of conditions and other inner graphs, `reread_rows` would not know.
    """
    if not finds_distinct_rows():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    handles = [graph.capture(table.handle) for table in tables]
    before = {user.name for handle in handles for user in handle.consumers()}
    yield
    for user in (user for handle in handles for user in handle.consumers()):
        if user.name not in before:
            user._set_attr(_ONLY_READS, tf.compat.v1.AttrValue(b=True))


def _origin(rows: tf.Tensor) -> tf.Tensor | None:
    """The output of `distinct_rows` that these are in another shape; None if they are not."""
    while tf.is_symbolic_tensor(rows):
        if _has(rows.op, _MARK):
            return rows
        if rows.op.type not in _VIEWS:
            return None
        rows = rows.op.inputs[0]
    return None


def _only_reads(operation: tf.Operation) -> bool:
    return operation.type in _READS or _has(operation, _ONLY_READS)


def _has(operation: tf.Operation, mark: str) -> bool:
    try:
        return bool(operation.get_attr(mark))
    except ValueError:  # it has no such attribute
        return False
