"""The same rows as `proto_prepare`, by Apache Beam's DirectRunner."""

from __future__ import annotations

import csv
import itertools
import pathlib

import apache_beam as beam
from proto_prepare import example
from worker_protocol import serve


class BeamWriter:
    """A step writes "rows" rows of the "log" to "output_dir"."""

    def prepare(self, options: dict) -> dict:
        """Cuts the file to its first rows, since a pipeline reads whole files."""
        self._options = options
        directory = pathlib.Path(options["output_dir"])
        directory.mkdir(parents=True, exist_ok=True)
        self._source = directory / "log.csv"
        with (pathlib.Path(options["log"]) / "log.csv").open(encoding="utf-8") as file:
            self._source.write_text("".join(itertools.islice(file, 1 + options["rows"])))
        return {"version": beam.__version__}

    def run(self, steps: int) -> int:
        """Runs the pipeline."""
        with self._source.open(encoding="utf-8", newline="") as file:
            names = next(csv.reader(file))
        for _ in range(steps):
            with beam.Pipeline("DirectRunner") as pipeline:
                lines = pipeline | beam.io.ReadFromText(str(self._source), skip_header_lines=1)
                records = lines | beam.Map(
                    lambda line: example(
                        dict(zip(names, next(csv.reader([line])), strict=True))
                    ).SerializeToString()
                )
                target = str(pathlib.Path(self._options["output_dir"]) / "rows")
                _ = records | beam.io.WriteToTFRecord(target)
        return steps * self._options["rows"]


if __name__ == "__main__":
    serve(BeamWriter())
