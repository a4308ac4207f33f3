"""The encoding of an earlier data set, kept for a later log: ids go on meaning what they meant.

Tokens that the later log brings are unknown ones, or stand behind the old ones (`grow`).
"""

from __future__ import annotations

import pathlib
import shutil

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from clsd_tf.compatibility import check_same_columns
from clsd_tf.encoding import EncodingTables, vocabulary_path
from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.spec import read_spec
from data_pipeline.column_values import column_values
from data_pipeline.manifest import Manifest
from data_pipeline.splits import SPLIT
from data_pipeline.statistics import BY_COUNT, LearnedTables, frequent_tokens


def check_source(spec: ClickLogSpec, source: str | pathlib.Path) -> None:
    """Checks that the encoding of `source` can be that of `spec`.

    Raises:
      ShardError: `source` is not a prepared data set.
      ValueError: it encodes other columns.
    """
    Manifest.load(source)
    check_same_columns(spec, read_spec(pathlib.Path(source) / "spec.toml"))


def keep_tables(
    rows: ir.Table,
    spec: ClickLogSpec,
    source: str | pathlib.Path,
    directory: pathlib.Path,
    *,
    grow: bool = False,
) -> LearnedTables:
    """Copies `encoding.json` and vocabularies of `source`.

    Args:
      rows: of the later log, with `_split` and the encoded columns.
      spec: of the later log.
      source: the earlier data set.
      directory: of the later one.
      grow: whether new tokens of training rows are appended, by `min_count` and `max_size` as when
        a vocabulary is learned. Never to the group's: a model has as many groups as it began with.
    """
    learned = LearnedTables(EncodingTables.load(source))
    group = spec.owner(spec.group).name if spec.group else None
    for name in learned.encoding.vocabulary_sizes:
        path = vocabulary_path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(vocabulary_path(source, name), path)
        if grow and name != group:
            tokens = path.read_text(encoding="utf-8").split("\n")[:-1]
            added = _new_tokens(rows, spec.column(name), tokens, learned)
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{token}\n" for token in added)
            learned.encoding.vocabulary_sizes[name] += len(added)
            learned.new_tokens[name] = len(added)
    learned.encoding.save(directory)
    return learned


def _new_tokens(
    rows: ir.Table, column: ColumnSpec, tokens: list[str], learned: LearnedTables
) -> list[str]:
    """Tokens of training rows that are not among `tokens`, the most frequent first."""
    values = column_values(rows.filter(rows[SPLIT] == "train"), column)
    found = frequent_tokens(values, column, learned)
    known = ibis.memtable(pa.table({"token": _typed(tokens, column)}))
    new = found.anti_join(known, "token").order_by(list(BY_COUNT))
    if column.max_size is not None:
        new = new.limit(max(column.max_size - len(tokens), 0))
    return [str(token) for token in new.to_pyarrow()["token"].to_pylist()]


def _typed(tokens: list[str], column: ColumnSpec) -> pa.Array:
    array = pa.array(tokens, pa.string())
    return array.cast(pa.int64()) if column.type == "int" else array
