"""The encoding of an earlier data set, kept for a later log: ids go on meaning what they meant."""

from __future__ import annotations

import pathlib
import shutil

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from clsd_tf.compatibility import check_same_columns
from clsd_tf.encoding import EncodingTables, vocabulary_path
from clsd_tf.features import ClickLogSpec
from clsd_tf.spec import read_spec
from data_pipeline.manifest import Manifest
from data_pipeline.statistics import LearnedTables


def check_source(spec: ClickLogSpec, source: str | pathlib.Path) -> None:
    """Checks that the encoding of `source` can be that of `spec`.

    Raises:
      ShardError: `source` is not a prepared data set.
      ValueError: it encodes other columns.
    """
    Manifest.load(source)
    check_same_columns(spec, read_spec(pathlib.Path(source) / "spec.toml"))


def keep_tables(
    engine: Backend, spec: ClickLogSpec, source: str | pathlib.Path, directory: pathlib.Path
) -> LearnedTables:
    """Copies `encoding.json` and vocabularies of `source`: tokens that are new are unknown ones.

    Args:
      engine: where vocabularies are stored as tables, as `learn_tables` does.
      spec: of the later log.
      source: the earlier data set.
      directory: of the later one.
    """
    learned = LearnedTables(EncodingTables.load(source), {}, {})
    learned.encoding.save(directory)
    for name in learned.encoding.vocabulary_sizes:
        path = vocabulary_path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(vocabulary_path(source, name), path)
        tokens = path.read_text(encoding="utf-8").split("\n")[:-1]
        column = pa.array(tokens, pa.string())
        if spec.column(name).type == "int":
            column = column.cast(pa.int64())
        table = ibis.memtable(pa.table({"token": column}))
        learned.vocabularies[name] = engine.create_table(f"vocabulary_{name}", table)
    return learned
