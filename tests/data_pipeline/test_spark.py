"""Spark gives what DuckDB gives, byte by byte: shards, vocabularies, statistics, keys."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil

import pyarrow.parquet as pq
import pytest

from data_pipeline.engines import open_spark
from data_pipeline.preparation import ReadOptions, prepare
from tests.data_pipeline.test_prepare import NOISE, Logs, contents, random_log

HAS_PYSPARK = importlib.util.find_spec("pyspark") is not None
HAS_JAVA = bool(shutil.which("java") or os.environ.get("JAVA_HOME"))
SPARK = ReadOptions(threads=1, engine="spark", spark_master="local[2]")

needs_spark = pytest.mark.skipif(
    not (HAS_PYSPARK and HAS_JAVA), reason="PySpark (the extra `spark`) and Java 17 are needed"
)


def assert_same(spark: pathlib.Path, duckdb: pathlib.Path) -> None:
    """All files of two data sets, Parquet by its rows."""
    files = [
        {n: b for n, b in contents(d, "*").items() if "results" not in n} for d in (spark, duckdb)
    ]
    assert files[0].keys() == files[1].keys()
    for name, content in files[0].items():
        if name.endswith(".parquet"):
            mine, theirs = (pq.read_table(d / name) for d in (spark, duckdb))
            assert mine.cast(theirs.schema).equals(theirs), name
        else:
            assert content == files[1][name], name


@needs_spark
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PySpark and pandas, whose deprecations are theirs
def test_spark_writes_the_same_data_set(tmp_path, monkeypatch):
    """Days, activity, vocabularies, quantiles, moments, planted noise, histories, duplicates."""
    # By default Spark divides every table among 200 tasks.
    few = "--conf spark.sql.shuffle.partitions=2 pyspark-shell"
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", few)
    logs = Logs(tmp_path)
    rows = random_log(300, seed=1)
    rows += rows[40:60]  # duplicates
    rows.append((3, "no number", "i1", "", 1, "", 1.0, 0))  # and a bad row
    read = {"max_bad_fraction": 0.5}
    duckdb = logs.prepare(rows, "duckdb", NOISE, ReadOptions(threads=1, **read))
    log = duckdb.with_suffix(".csv")
    spark = tmp_path / "spark"
    prepare(str(logs.spec), str(log), spark, ReadOptions(**{**vars(SPARK), **read}), NOISE)
    assert_same(spark, duckdb)


def test_without_java_it_says_what_to_install(tmp_path, monkeypatch):
    if not HAS_PYSPARK:
        with pytest.raises(ValueError, match="needs PySpark"):
            open_spark(tmp_path, "local[1]")
        return
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs Java 17 or later"):
        open_spark(tmp_path, "local[1]")
