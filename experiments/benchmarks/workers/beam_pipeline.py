"""The same as `proto_pipeline`, by Apache Beam's DirectRunner."""

from __future__ import annotations

import csv
import itertools
import pathlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
from log_columns import log_file
from row_pipeline import (
    SPLITS,
    Columns,
    Counts,
    Encoding,
    Row,
    record,
    starts_of_splits,
    with_histories,
)
from worker_protocol import serve


class Read(beam.DoFn):
    """Lines -> rows, and those that are none, with the reason, to "bad"."""

    def __init__(self, columns: Columns):
        self._columns = columns

    def process(self, line: str) -> Iterator:
        """Reads a line."""
        try:
            yield self._columns.read(next(csv.reader([line])))
        except ValueError as error:
            yield beam.pvalue.TaggedOutput("bad", f"{line},{error}")


class CountRows(beam.CombineFn):
    """Rows -> their encoding."""

    def __init__(self, columns: Columns):
        self._columns = columns

    def create_accumulator(self) -> Counts:
        """Begins."""
        return Counts(self._columns)

    def add_input(self, counts: Counts, row: Row) -> Counts:
        """Counts a row."""
        counts.add([row])
        return counts

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        """Adds up."""
        return Counts(self._columns).merge(accumulators)

    def extract_output(self, counts: Counts) -> Encoding:
        """Ends."""
        return counts.encoding()


class BeamPipeline:
    """A step prepares "rows" of the "log" into "output_dir", with lists of "history" clicks."""

    def prepare(self, options: dict) -> dict:
        """Cuts the file to its first rows, since a pipeline reads whole files."""
        self._rows = options["rows"]
        self._target = pathlib.Path(options["output_dir"])
        self._target.mkdir(parents=True, exist_ok=True)
        self._source = self._target / "log.csv"
        with log_file(options["log"]).open(encoding="utf-8") as file:
            lines = list(itertools.islice(file, 1 + self._rows))
        self._source.write_text("".join(lines))
        self._columns = Columns({**options, "starts": starts_of_splits(lines)})
        return {"version": beam.__version__}

    def run(self, steps: int) -> int:
        """Runs the pipeline."""
        for _ in range(steps):
            self._prepare()
        return steps * self._rows

    def _prepare(self) -> None:
        columns = self._columns

        def of_user(user_and_rows: tuple[int, Iterable[Row]]):
            """Its rows, each once, with their histories."""
            in_order = sorted(set(user_and_rows[1]), key=lambda row: row.time)
            return with_histories(in_order, columns.history)

        with beam.Pipeline("DirectRunner") as pipeline:
            lines = pipeline | beam.io.ReadFromText(str(self._source), skip_header_lines=1)
            read = lines | beam.ParDo(Read(columns)).with_outputs("bad", main="rows")
            _ = read.bad | beam.io.WriteToText(str(self._target / "bad_rows"))
            rows = (
                read.rows
                | "By user" >> beam.Map(lambda row: (row.ids[0], row))
                | beam.GroupByKey()
                | beam.FlatMap(of_user)
            )
            splits = rows | beam.Partition(lambda row, n: columns.split(row[0]), len(SPLITS))
            encoding = (
                splits[0]
                | "Row" >> beam.Map(lambda row: row[0])
                | beam.CombineGlobally(CountRows(columns))
            )
            for name, of_split in zip(SPLITS, splits, strict=True):
                records = of_split | f"Encode {name}" >> beam.Map(
                    lambda row, encoding: record(columns, encoding, *row),
                    beam.pvalue.AsSingleton(encoding),
                )
                target = str(self._target / name)
                _ = records | f"Write {name}" >> beam.io.WriteToTFRecord(target)


if __name__ == "__main__":
    serve(BeamPipeline())
