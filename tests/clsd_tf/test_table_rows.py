"""Rows of tables: read, found once, put where they are wanted, and summed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import sharded_variable

from clsd_tf.table_rows import (
    are_distinct,
    distinct_rows,
    only_reading,
    read_rows,
    reread_rows,
    spread,
    sum_by_place,
)


def test_rows_of_any_shape_are_read_from_tables_of_any_rank():
    matrix, vector = np.arange(12.0).reshape(4, 3), np.arange(4)
    for shape in ([5], [2, 3], [2, 3, 2], [0, 3], [0]):
        rows = np.random.default_rng(0).integers(0, 4, shape)
        for values in (matrix, vector):
            for table in (tf.Variable(values), tf.constant(values)):
                read = read_rows(table, tf.constant(rows, tf.int64))
                np.testing.assert_array_equal(read, values[rows])


def test_a_table_that_is_cut_is_not_fetched_whole(monkeypatch):
    """Its parts lie on parameter servers, whatever the scope in which it is read."""
    parts = [tf.Variable(tf.ones([2, 3])), tf.Variable(2.0 * tf.ones([2, 3]))]
    table = sharded_variable.ShardedVariable(parts)

    @tf.function
    def read(rows):
        return read_rows(table, rows)

    np.testing.assert_array_equal(read(tf.constant([3, 0]))[:, 0], [2.0, 1.0])
    graph = read.get_concrete_function(tf.constant([3, 0])).graph
    assert "ReadVariableOp" not in {op.type for op in graph.get_operations()}
    monkeypatch.setattr("clsd_tf.table_rows.has_rivals", lambda: True)
    whole = tf.function(lambda rows: read_rows(parts[0], rows))
    kinds = {op.type for op in whole.get_concrete_function(tf.constant([1])).graph.get_operations()}
    assert "ResourceGather" in kinds and "ResourceGatherNd" not in kinds


def test_a_row_that_a_table_has_not_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not index into"):
        read_rows(tf.Variable(tf.zeros([4, 2])), tf.constant([1, 4]))


def test_vectors_are_put_where_they_are_wanted_and_gradients_summed():
    rows = [{"a": [7, 3, 7]}, {"b": [12, 10], "c": [10, 11, 10]}]

    @tf.function
    def both():
        tables = [{name: tf.constant(c, tf.int64) for name, c in t.items()} for t in rows]
        read, places = distinct_rows(tables)
        assert are_distinct(read) and are_distinct(tf.reshape(read, [-1, 1]))
        assert not are_distinct(tf.concat([read, read], axis=0)) and not are_distinct(read + 1)
        vectors = tf.cast(read, tf.float32)[:, tf.newaxis]
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            first, _, third = spread(vectors, *(places[name] for name in "abc"))
            total = tf.reduce_sum(first * [[1.0], [2.0], [4.0]]) + tf.reduce_sum(8.0 * third)
        return read, [first, third], tape.gradient(total, vectors)

    read, (first, third), gradient = both()
    np.testing.assert_array_equal(read, [7, 3, 12, 10, 11])
    np.testing.assert_array_equal(first[:, 0], [7, 3, 7])
    np.testing.assert_array_equal(third[:, 0], [10, 11, 10])
    np.testing.assert_array_equal(gradient[:, 0], [1 + 4, 2, 0, 16, 8])
    assert not are_distinct(tf.constant([1, 2]))


def test_what_was_written_is_not_read_again():
    table = tf.Variable(tf.zeros([6, 2]))

    @tf.function
    def step(ids):
        rows, _ = distinct_rows([{"ids": ids}])
        values = tf.cast(rows[:, tf.newaxis], tf.float32) * tf.ones([1, 2])
        table.scatter_update(tf.IndexedSlices(values, rows))
        at_hand = reread_rows(table, rows)
        assert at_hand is values
        table.scatter_update(tf.IndexedSlices(tf.ones([1, 2]), tf.constant([4], tf.int64)))
        again = reread_rows(table, rows)
        table.scatter_update(tf.IndexedSlices(values + 1.0, rows))
        return rows, at_hand, again, reread_rows(table, rows)

    rows, first, second, third = step(tf.constant([4, 2, 4], tf.int64))
    np.testing.assert_array_equal(rows, [4, 2])
    np.testing.assert_array_equal(first, [[4, 4], [2, 2]])
    np.testing.assert_array_equal(second, [[1, 1], [2, 2]])
    np.testing.assert_array_equal(third, [[5, 5], [3, 3]])


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("is_written", [True, False])
def test_a_condition_is_taken_to_write_unless_it_is_told_of(is_told, is_written):
    table = tf.Variable(tf.ones([6, 2]))

    @tf.function
    def step(ids):
        rows, _ = distinct_rows([{"ids": ids}])
        read = read_rows(table, rows)
        if is_written:
            table.assign_add(tf.ones([6, 2]))
        with only_reading([table]) if is_told else contextlib.nullcontext():
            tf.cond(ids[0] > 3, lambda: tf.reduce_sum(table), lambda: 0.0)
        again = reread_rows(table, rows)
        assert (again is read.op.inputs[0]) == (is_told and not is_written)
        tf.cond(ids[0] > 3, lambda: table.assign(2.0 * table), lambda: table.value())
        return again, reread_rows(table, rows)

    expected = (1 + is_written) * np.ones([2, 2])
    first, second = step(tf.constant([4, 2, 4], tf.int64))
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, 2 * expected)


def test_sums_by_place_are_those_of_numpy():
    rng = np.random.default_rng(0)
    values, places = rng.normal(size=(30, 3)).astype(np.float32), rng.integers(0, 8, 30)
    expected = np.zeros((9, 3))
    np.add.at(expected, places, values)
    for dtype, near in ((tf.float32, 1e-6), (tf.float64, 1e-14)):
        sums = sum_by_place(
            tf.constant(values, dtype), tf.constant(places), tf.constant(9, tf.int64)
        )
        np.testing.assert_allclose(sums, expected, atol=near)
