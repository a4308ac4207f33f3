"""A stage of this project on logs of several sizes, and the exponent of its cost."""

from __future__ import annotations

import json
import pathlib

from own_prepare import OwnPreparation
from own_read import batches
from worker_protocol import cpu_seconds, serve

from experiments.benchmarks.summaries import growth_exponent


class Growth:
    """Options: "stage" (prepare or read), "logs" or "prepared", "rows", "output_dir"."""

    def prepare(self, options: dict) -> dict:
        """Loads what is needed."""
        self._options = options
        self._preparation = OwnPreparation()
        return self._preparation.prepare({})

    def run(self, steps: int) -> tuple[int, dict[str, float]]:
        """Does the work of every size in turn."""
        rows, costs = self._options["rows"], []
        for place in range(len(rows)):
            start = cpu_seconds()
            for _ in range(steps):
                self._do(place)
            costs.append((cpu_seconds() - start) / steps)
        return steps * sum(rows), {"exponent": growth_exponent(rows, costs)}

    def _do(self, place: int) -> None:
        if self._options["stage"] == "prepare":
            self._preparation.prepare(
                {
                    "log": self._options["directories"][place],
                    "rows": self._options["rows"][place],
                    "output_dir": self._options["output_dir"],
                }
            )
            self._preparation.run(1)
            return
        directory = self._options["directories"][place]
        manifest = json.loads((pathlib.Path(directory) / "manifest.json").read_text())
        left = manifest["rows"]["train"]
        for count in batches({"prepared": directory, "batch_size": 4096}):
            left -= count
            if left <= 0:
                return


if __name__ == "__main__":
    serve(Growth())
