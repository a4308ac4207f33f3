"""A whole run of `data_pipeline.prepare`: log files in, a data set that appears at once."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import duckdb
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend

from clsd_tf.spec import parse_spec, read_spec_text
from data_pipeline.cli import write_json
from data_pipeline.data_set import WriteOptions, write_data_set
from data_pipeline.datasets import spec_path
from data_pipeline.directories import whole_directory
from data_pipeline.engines import open_engine, open_spark, told
from data_pipeline.input_files import find_log
from data_pipeline.kept_tables import check_source
from data_pipeline.loading import load_impressions
from data_pipeline.manifest import Manifest
from data_pipeline.progress import steps
from data_pipeline.schema import write_schema

# A directory with a manifest is a finished data set.
_MARK = "manifest.json"
_PACKAGES = ("clsd_tf", "tensorflow", "ibis-framework", "duckdb", "pyarrow")


class EngineError(RuntimeError):
    """The engine lacks memory or disk."""


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Which rows are read, and with what.

    Attributes:
      max_bad_fraction: share of rows that may be unusable.
      first_day: as text; rows of earlier days are left out.
      last_day: as text; rows of later days are left out.
      threads: of the engine; None: all processors.
      memory_limit: of the engine, such as "8GB"; None: its default.
      engine: "duckdb", or "spark" for all that comes after reading and checking the files.
      spark_master: where Spark runs.
    """

    max_bad_fraction: float = 0.01
    first_day: str | None = None
    last_day: str | None = None
    threads: int | None = None
    memory_limit: str | None = None
    engine: str = "duckdb"
    spark_master: str = "local[*]"

    def decisive(self) -> dict[str, object]:
        """What decides which rows are read; who computes, and with what, changes no byte."""
        options = dataclasses.asdict(self)
        others = ("threads", "memory_limit", "engine", "spark_master")
        return {n: v for n, v in options.items() if n not in others}


def prepare(
    spec: str,
    inputs: str,
    output_dir: str | pathlib.Path,
    read: ReadOptions,
    write: WriteOptions,
    *,
    overwrite: bool = False,
    before_shown: Callable[[pathlib.Path, dict[str, object]], None] | None = None,
) -> dict[str, object]:
    """Prepares the log in `inputs` and returns what `stats.json` says.

    Args:
      spec: path of a spec, or the name of a ready one.
      inputs: a file, a glob or a directory.
      output_dir: of the data set.
      read: which rows.
      write: how.
      overwrite: whether a data set in `output_dir` is replaced.
      before_shown: called with the directory that will take the place of `output_dir` and what is
        returned, for what has to appear along with it.

    Raises:
      FileExistsError: something stands in `output_dir`.
      EngineError: memory or disk is too small.
      ValueError, OSError: spec, files or options are wrong.

    After an error nothing is left but, if too many rows are bad, those in
    `<output_dir>.quarantine.parquet`.
    """
    path = spec_path(spec)
    text = read_spec_text(path)
    log = parse_spec(text, source=str(path))
    if write.encoding_from is not None:
        check_source(log, write.encoding_from)
    place = pathlib.Path(output_dir).absolute()
    with whole_directory(place, mark=_MARK, overwrite=overwrite) as directory:
        files = find_log(inputs, log.input.files, [table.file for table in log.tables.values()])
        # Nobody knows how many impressions the lists of a row hold.
        text_bytes = None if log.explode else files.text_bytes()
        with _engines(directory / "engine", read, text_bytes) as (reader, engine):
            with steps() as begin:
                loaded = load_impressions(
                    reader,
                    log,
                    inputs,
                    directory,
                    max_bad_fraction=read.max_bad_fraction,
                    first_day=read.first_day,
                    last_day=read.last_day,
                    failed_quarantine=place.with_name(f"{place.name}.quarantine.parquet"),
                    progress=begin,
                    into=engine,
                )
            written = write_data_set(
                engine, loaded.impressions, log, directory, write, threads=read.threads
            )
        (directory / "spec.toml").write_text(text, encoding="utf-8")
        write_schema(log, directory)
        statistics = {
            "name": log.name,
            **dataclasses.asdict(loaded.counts),
            "quarantined": loaded.quarantined,
            **written.statistics,
        }
        write_json(directory / "stats.json", statistics)
        if before_shown is not None:
            before_shown(directory, statistics)
        Manifest(
            name=log.name,
            layout=write.layout,
            block_rows=write.block_rows,
            rows=written.rows,
            shards=written.shards,
            source=tuple(loaded.source),
            noise=written.noise,
            prepared={
                "input": os.path.abspath(inputs),
                "read": read.decisive(),
                "write": dataclasses.asdict(write),
            },
            versions={package: importlib.metadata.version(package) for package in _PACKAGES},
        ).save(directory)
    return statistics


@contextlib.contextmanager
def _engines(
    directory: pathlib.Path, read: ReadOptions, text_bytes: int | None
) -> Iterator[tuple[Backend, BaseBackend]]:
    """The engine that reads files and the one that does the rest, often the same.

    Their files are removed with them, and a lack of room is an expected error.
    """
    reader = open_engine(
        directory, threads=read.threads, memory_limit=read.memory_limit, text_bytes=text_bytes
    )
    engine: BaseBackend = reader
    try:
        if read.engine == "spark":
            engine = open_spark(directory / "spark", read.spark_master)
        yield reader, engine
    except (duckdb.OutOfMemoryException, duckdb.IOException, duckdb.TransactionException) as error:
        raise EngineError(
            f"The engine lacks room. Received: {told(error)} Expected: enough memory and disk "
            "beside the output directory. Give another --memory_limit, fewer --threads, or another "
            "disk."
        ) from error
    finally:
        for opened in {id(e): e for e in (engine, reader)}.values():
            opened.disconnect()
        shutil.rmtree(directory, ignore_errors=True)
