"""The encoding of an earlier data set, kept for a later log."""

from __future__ import annotations

import json

import pytest

from data_pipeline.data_set import WriteOptions
from data_pipeline.manifest import ShardError
from tests.data_pipeline.test_prepare import SPEC, START, Logs, contents, random_log, read


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)


@pytest.fixture
def first(logs):
    return logs.prepare(random_log(300, seed=0), "first")


def kept(directory) -> WriteOptions:
    return WriteOptions(encoding_from=str(directory))


def test_ids_go_on_meaning_what_they_meant(logs, first):
    newcomer = (3, 4711, "unheard of", START + 350, 1, "X", 1.0, 1)
    logs.spec.write_text(SPEC.replace("train_from = 2", "train_from = 3"))  # days may differ
    second = logs.prepare([*random_log(100, seed=1), newcomer], "second", kept(first))
    for pattern in ("encoding.json", "vocab/*.txt"):
        assert contents(second, pattern) == contents(first, pattern)
    train = read(second, "train")
    assert 1 in train["user"] and 1 in train["item"]  # out of vocabulary
    rates = json.loads((second / "stats.json").read_text())["oov_rates"]
    assert 0 < rates["user"]["train"] < 0.5
    assert json.loads((first / "stats.json").read_text())["oov_rates"]["user"]["train"] == 0


def tokens(directory, column: str) -> list[str]:
    return (directory / "vocab" / f"{column}.txt").read_text().splitlines()


def test_new_tokens_stand_behind_the_old_ones(logs, first):
    spec = SPEC.replace('item = { role = "item",', 'item = { role = "item", min_count = 2,')
    logs.spec.write_text(spec)
    first = logs.prepare(random_log(300, seed=0), "counted")
    rows = random_log(100, seed=1)
    names = enumerate(("new", "new", "rare"))
    rows += [(3, 4711, name, START + 50 + i, 1, "X", 1.0, 1) for i, name in names]
    rows += [(5, 4712, "late", START + 999, 1, "X", 1.0, 1)] * 3  # of no training row
    options = WriteOptions(encoding_from=str(first), grow_vocabulary=True)
    second = logs.prepare(rows, "second", options)
    for column in ("user", "item", "city"):
        old, new = tokens(first, column), tokens(second, column)
        assert new[: len(old)] == old
        assert len(set(new)) == len(new)
    assert tokens(second, "user")[-1] == "4711" and "new" in tokens(second, "item")
    assert "rare" not in tokens(second, "item") and "4712" not in tokens(second, "user")
    train = read(second, "train")
    assert len(tokens(second, "user")) + 1 in train["user"]
    statistics = json.loads((second / "stats.json").read_text())
    assert statistics["new_tokens"]["user"] == 1
    third = logs.prepare(rows, "third", WriteOptions(encoding_from=str(second)))
    assert tokens(third, "item") == tokens(second, "item")


def test_vocabularies_grow_no_larger_than_the_spec_says(logs):
    limited = 'city = { type = "string", encoding = "vocabulary", max_size = 2,'
    logs.spec.write_text(
        SPEC.replace('city = { type = "string", encoding = "vocabulary",', limited)
    )
    first = logs.prepare(random_log(300, seed=0), "first")
    rows = [(*row[:5], "Ulm", *row[6:]) for row in random_log(100, seed=1)]
    options = WriteOptions(encoding_from=str(first), grow_vocabulary=True)
    assert tokens(logs.prepare(rows, "second", options), "city") == tokens(first, "city")


def test_without_an_earlier_data_set_nothing_grows():
    with pytest.raises(ValueError, match="grow from those of an earlier data set"):
        WriteOptions(grow_vocabulary=True)


@pytest.mark.parametrize(
    ("now", "then", "message"),
    [
        ("quantiles = 4", "quantiles = 5", "column 'size' otherwise.*quantiles: now 5, then 4"),
        ('scaling = "standard" }', 'scaling = "log" }', "'price' .*scaling: now 'log', then 'stan"),
        ("length = 2", "length = 3", "'click_history' .*max_length: now 3, then 2"),
        ("city = {", "town = {", "'city' .*Received: no such column now"),
    ],
)
def test_another_encoding_is_refused_by_column(logs, first, now, then, message):
    logs.spec.write_text(SPEC.replace(now, then))
    with pytest.raises(ValueError, match=message):
        logs.prepare(random_log(50, seed=1), "second", kept(first))
    assert not (logs.directory / "second").exists()


def test_a_folder_that_was_not_prepared(logs):
    with pytest.raises(ShardError, match="Not a prepared data set"):
        logs.prepare(random_log(50, seed=1), "second", kept(logs.directory))
