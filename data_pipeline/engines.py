"""The engine that log tables are computed in: DuckDB on disk, through Ibis."""

from __future__ import annotations

import pathlib

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend


def open_engine(
    directory: str | pathlib.Path, *, threads: int | None = None, memory_limit: str | None = None
) -> Backend:
    """Opens a DuckDB whose tables, and what does not fit into memory, lie in `directory`.

    Args:
      directory: made if need be; whoever made it removes it when the work is done.
      threads: how many the engine uses, by default one for each processor. Results do not depend
        on it.
      memory_limit: such as "4GB"; by default 80 % of the machine's.

    Raises:
      ValueError: `threads` or `memory_limit` is none.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"temp_directory": str(directory / "spill")}
    if threads is not None:
        if threads < 1:
            raise ValueError(f"`threads` must be at least 1. Received: {threads}.")
        settings["threads"] = threads
    if memory_limit is not None:
        settings["memory_limit"] = memory_limit
    try:
        engine = ibis.duckdb.connect(directory / "tables.duckdb", **settings)
    except duckdb.Error as error:
        if memory_limit is None:
            raise
        raise ValueError(
            f'`memory_limit` must be like "4GB". Received: {memory_limit!r} ({error}).'
        ) from error
    for setting in ("enable_progress_bar = false", "TimeZone = 'UTC'"):
        engine.raw_sql(f"SET {setting}")
    return engine


# What the engine raises where a file is not what its name says.
UNREADABLE_FILES = (
    duckdb.ConversionException,
    duckdb.InternalException,
    duckdb.InvalidInputException,
    duckdb.IOException,
    duckdb.OutOfRangeException,
    duckdb.SerializationException,
    duckdb.TransactionException,
)


def lacks_room(error: Exception) -> bool:
    """Whether an error of the engine says that memory or disk is too small."""
    return isinstance(error, duckdb.OutOfMemoryException) or any(
        sign in str(error) for sign in ("No space left", "Could not write", "File too large")
    )


def told(error: Exception) -> str:
    """What an error of the engine says, without its advice on SQL: one sentence."""
    line = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    return f"{line.strip().rstrip('.')}."


def keep_table(engine: Backend, name: str, rows: ir.Table) -> ir.Table:
    """Computes `rows` into table `name` of the engine, in place of an earlier one."""
    # Dropping by Ibis is broken with recent releases of its SQL writer.
    engine.raw_sql(f'DROP TABLE IF EXISTS "{name}"')
    return engine.create_table(name, rows)
