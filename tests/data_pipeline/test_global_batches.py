"""Shares of the input: every row once, and the same global batches whoever reads them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data_pipeline import row_windows
from data_pipeline.global_batches import replica_batches
from data_pipeline.reader import make_dataset, steps_per_epoch

BATCH = 30


@pytest.fixture
def uneven(generate, monkeypatch):
    """170 rows in three shards, which two workers cannot divide evenly."""
    monkeypatch.setattr(row_windows, "WINDOW_ROWS", 64)
    return generate(170).write("data", num_shards=3)


def read(directory, **options) -> list[list[int]]:
    """The `_row`s of each batch."""
    options = {"columns": [], "extra_columns": ["_row"], "seed": 3, **options}
    dataset = replica_batches(directory, "train", BATCH, **options)
    return [features["_row"].numpy().tolist() for features, _, _ in dataset]


def flat(batches) -> list[int]:
    return [*itertools.chain.from_iterable(batches)]


def global_batches(directory, num_shares, num_replicas, processes, **options) -> list[list[int]]:
    """What the replicas of all processes read in each step."""
    local = num_replicas // processes
    steps = []
    for process in range(processes):
        replicas = range(process * local, (process + 1) * local)
        options |= {"num_shares": num_shares, "num_replicas": num_replicas, "replicas": replicas}
        batches = read(directory, **options)
        steps.append([flat(batches[i : i + local]) for i in range(0, len(batches), local)])
    return [flat(parts) for parts in zip(*steps, strict=True)]


def test_one_share_is_the_data_set_as_it_is(uneven):
    options = {"columns": [], "extra_columns": ["_row"], "seed": 3, "epochs": 2}
    plain = [
        f["_row"].numpy().tolist() for f, _, _ in make_dataset(uneven, "train", BATCH, **options)
    ]
    assert read(uneven, num_shares=1, epochs=2) == plain


@pytest.mark.parametrize(
    ("num_shares", "num_replicas", "processes"), [(2, 2, 2), (4, 2, 2), (4, 2, 1), (4, 4, 2)]
)
def test_batches_depend_on_the_number_of_shares_alone(uneven, num_shares, num_replicas, processes):
    together = global_batches(uneven, num_shares, num_replicas, processes, epochs=2)
    assert together == read(uneven, num_shares=num_shares, epochs=2)
    steps = steps_per_epoch(uneven, "train", BATCH)
    assert len(together) == 2 * steps
    for epoch in (together[:steps], together[steps:]):
        assert sorted(flat(epoch)) == [*range(170)]
        # Two shares of 113 and 57 rows: each batch takes of both, so that all are of a size.
        assert max(map(len, epoch)) - min(map(len, epoch)) <= num_shares


@pytest.mark.parametrize("skip", [1, 6, 9])
def test_shares_go_on_where_they_were(uneven, skip):
    whole = read(uneven, num_shares=2, epochs=2)
    assert read(uneven, num_shares=2, epochs=2, skip_batches=skip) == whole[skip:]


def test_a_fold_is_left_out_of_all_shares(uneven):
    fold = {"without_fold": (1, 3)}
    left = sorted(flat(read(uneven, num_shares=1, **fold)))
    assert 0 < len(left) < 170
    together = global_batches(uneven, 2, 2, 2, **fold)
    assert sorted(flat(together)) == left
    assert len(together) == steps_per_epoch(uneven, "train", BATCH, without_fold=(1, 3))


def test_a_share_with_too_few_rows_ends_with_empty_batches(generate):
    directory = generate(40).write("data", num_shards=1, block_rows=16)
    shares = [
        read(directory, num_shares=4, num_replicas=4, replicas=[index], epochs=2)
        for index in range(4)
    ]
    assert [[len(batch) for batch in share] for share in shares] == [
        [8, 8] * 2,
        [8, 8] * 2,
        [4, 4] * 2,
        [0, 0] * 2,  # records go to whole workers
    ]
    few = make_dataset(directory, "train", BATCH, num_batches=50, columns=[])
    assert [len(label) for _, label, _ in few] == [1] * 40 + [0] * 10


def test_an_empty_batch_has_the_columns_of_the_others(generate):
    for layout in ("columnar", "row"):
        directory = generate(20).write(layout, layout=layout)
        full, empty = [*make_dataset(directory, "train", 1, num_batches=21)][-2:]
        for some, none in zip(full[0].values(), empty[0].values(), strict=True):
            assert none.shape == (0, *some.shape[1:])
            assert none.dtype == some.dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shares": 3, "num_replicas": 2}, "num_shares=3 for 2 replicas. Expected: a multiple"),
        ({"num_shares": 0}, "num_shares=0"),
    ],
)
def test_shares_that_cannot_be_divided(uneven, options, message):
    with pytest.raises(ValueError, match=message):
        read(uneven, **options)


def test_even_batches_hold_all_rows(uneven):
    with pytest.raises(ValueError, match="`num_batches` must be >= 1"):
        make_dataset(uneven, "train", BATCH, num_batches=3, drop_remainder=True)
    sizes = [len(label) for _, label, _ in make_dataset(uneven, "train", BATCH, num_batches=7)]
    np.testing.assert_array_equal(sizes, [25, 25, 24, 24, 24, 24, 24])
