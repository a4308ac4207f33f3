"""A raw log -> shards, by this project."""

from __future__ import annotations

import pathlib
import shutil

from worker_protocol import serve

from data_pipeline.cli import load_tensorflow


class OwnPreparation:
    """A step prepares the "log" of so many "rows" into "output_dir"."""

    def prepare(self, options: dict) -> dict:
        """Loads what is needed."""
        load_tensorflow()
        self._options = options
        return {}

    def run(self, steps: int) -> int:
        """Prepares, from CSV to shards that can be trained on."""
        from data_pipeline.data_set import WriteOptions
        from data_pipeline.preparation import ReadOptions, prepare

        log = pathlib.Path(self._options["log"])
        for _ in range(steps):
            shutil.rmtree(self._options["output_dir"], ignore_errors=True)
            prepare(
                str(log / "spec.toml"),
                str(log),
                self._options["output_dir"],
                ReadOptions(),
                WriteOptions(),
            )
        return steps * self._options["rows"]


if __name__ == "__main__":
    serve(OwnPreparation())
