"""The engines that log tables are computed in, through Ibis: DuckDB on disk, or Spark.

The same expressions run on both. Files are read and checked by DuckDB, which says of every line
where it stands; Spark, where it is wanted, is handed the good rows as Parquet and does the rest.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import shutil
import sys
import warnings

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend

# Two tables of the rows, columns of side tables, and what sorting takes: less than 7 times the text
# of the log of the benchmark, and by sizes of columns some 25 times that of a narrow one.
_MEMORY_OF_TEXT = 32
# DuckDB asks for 125 MB a thread at the least; sorting rows of many columns takes more.
_THREAD_BYTES = 250_000_000


def open_engine(
    directory: str | pathlib.Path,
    *,
    threads: int | None = None,
    memory_limit: str | None = None,
    text_bytes: int | None = None,
) -> Backend:
    """Opens a DuckDB whose tables, and what does not fit into memory, lie in `directory`.

    Where a log fits into memory with room to spare, tables stay there, uncompressed: to compress
    them and read them again is a twelfth of what `prepare` costs.

    Args:
      directory: made if need be; whoever made it removes it when the work is done.
      threads: how many the engine uses, by default one for each processor. Results do not depend
        on it.
      memory_limit: such as "4GB"; by default 80 % of the machine's.
      text_bytes: of the log as text, about; None where that is not known, or of no matter.

    Raises:
      ValueError: `threads` or `memory_limit` is none.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, str | int] = {"temp_directory": str(directory / "spill")}
    if threads is not None:
        if threads < 1:
            raise ValueError(f"`threads` must be at least 1. Received: {threads}.")
        settings["threads"] = threads
    if memory_limit is not None:
        settings["memory_limit"] = memory_limit
    try:
        engine = ibis.duckdb.connect(**settings)
    except duckdb.Error as error:
        if memory_limit is None:
            raise
        raise ValueError(
            f'`memory_limit` must be like "4GB". Received: {memory_limit!r} ({error}).'
        ) from error
    if text_bytes is None or text_bytes * _MEMORY_OF_TEXT > _memory_limit(engine):
        engine.disconnect()
        engine = ibis.duckdb.connect(directory / "tables.duckdb", **settings)
    for setting in ("enable_progress_bar = false", "TimeZone = 'UTC'"):
        engine.raw_sql(f"SET {setting}")
    return engine


def leave_room(engine: BaseBackend, num_bytes: int) -> None:
    """Lets DuckDB do with so much less memory from now on, for what other code is to hold.

    Only where its tables lie on disk, and as far as enough remains for each of its threads.
    """
    if is_spark(engine):
        return
    place = "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    (path,) = engine.raw_sql(place).fetchone()
    (threads,) = engine.raw_sql("SELECT current_setting('threads')").fetchone()
    limit = _memory_limit(engine)
    left = max(limit - num_bytes, threads * _THREAD_BYTES)
    if path is not None and left < limit:
        # It may hold more than that and not be able to let it go.
        with contextlib.suppress(duckdb.OutOfMemoryException):
            engine.raw_sql(f"SET memory_limit = '{left:.0f}B'")


def _memory_limit(engine: BaseBackend) -> float:
    """In bytes; infinite beyond what DuckDB can read again."""
    limit = "SELECT TRY(parse_formatted_bytes(current_setting('memory_limit')))"
    (memory,) = engine.raw_sql(limit).fetchone()
    return math.inf if memory is None else memory


# What the engine raises where a file is not what its name says.
_UNREADABLE_FILES = (
    duckdb.ConversionException,
    duckdb.InternalException,
    duckdb.InvalidInputException,
    duckdb.IOException,
    duckdb.OutOfRangeException,
    duckdb.SerializationException,
    duckdb.TransactionException,
)


def are_unreadable(error: duckdb.Error) -> bool:
    """Whether an error of the engine says that files are not what their names say."""
    # For some damages of Parquet there is no class but that of all errors.
    return isinstance(error, _UNREADABLE_FILES) or type(error) is duckdb.Error


def lacks_room(error: Exception) -> bool:
    """Whether an error of the engine says that memory or disk is too small."""
    return isinstance(error, duckdb.OutOfMemoryException) or any(
        sign in str(error) for sign in ("No space left", "Could not write", "File too large")
    )


def told(error: Exception) -> str:
    """What an error of the engine says, without its advice on SQL: one sentence."""
    line = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    return f"{line.strip().rstrip('.')}."


def keep_table(
    engine: BaseBackend, name: str, rows: ir.Table, *, temporary: bool = False
) -> ir.Table:
    """Computes `rows` into table `name` of the engine, in place of an earlier one.

    Args:
      engine: which.
      name: of the table.
      rows: of tables of the engine.
      temporary: for text that is read but a few times. DuckDB does not compress it, which is dear,
        but writes all of it anew for each reading where it is larger than memory.
    """
    if is_spark(engine):
        return engine.create_table(name, rows, overwrite=True)
    # Dropping by Ibis is broken with recent releases of its SQL writer.
    engine.raw_sql(f'DROP TABLE IF EXISTS "{name}"')
    return engine.create_table(name, rows, temp=temporary)


def is_spark(engine: BaseBackend) -> bool:
    """Whether the engine is Spark and not DuckDB."""
    return engine.name == "pyspark"


def work_directory() -> pathlib.Path:
    """Where the Spark engine that is open keeps what it makes."""
    from pyspark.sql import SparkSession

    tables = SparkSession.active().conf.get("spark.sql.warehouse.dir")
    return pathlib.Path(tables.removeprefix("file:")).parent


def open_spark(directory: str | pathlib.Path, master: str) -> BaseBackend:
    """Opens a Spark session whose tables lie in `directory`.

    Args:
      directory: made if need be; all executors have to see it under the same path.
      master: such as "local[4]" or "spark://host:7077".

    Raises:
      ValueError: there is no PySpark, or no Java.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ValueError(
            "--engine=spark needs PySpark. Received: an installation without it. Run "
            "`pip install 'clsd_tf[spark]'`, or leave --engine out."
        ) from error
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise ValueError(
            "--engine=spark needs Java 17 or later. Received: no `java` on PATH and no JAVA_HOME. "
            "Install a JRE (Debian: openjdk-17-jre-headless), or leave --engine out."
        )
    directory = pathlib.Path(directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "spark.sql.warehouse.dir": str(directory / "tables"),
        "spark.local.dir": str(directory / "spill"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(master).appName("clsd-prepare")
    for name, value in settings.items():
        builder = builder.config(name, value)
    # PySpark doubts pandas 3, through which Ibis takes what are counts and bounds here.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    return ibis.pyspark.connect(builder.getOrCreate())


def hand_over(rows: ir.Table, source: Backend, target: BaseBackend, name: str) -> ir.Table:
    """The rows in another engine.

    Args:
      rows: of `source`.
      source: DuckDB.
      target: where they are wanted; the same engine gets them as they are.
      name: of a table of `target`.
    """
    if target is source:
        return rows
    path = work_directory() / "handed_over" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = str(path).replace("'", "''")
    source.raw_sql(
        f"COPY ({source.compile(rows)}) TO '{text}' (FORMAT parquet, PER_THREAD_OUTPUT true)"
    )
    return target.read_parquet(path, table_name=name)
