"""The loss of a training as it went, in a file that anyone can read: `<phase>/steps.jsonl`.

One JSON object a line: `step` (batches since training began, over all resumes), `seconds` of
training until then, `loss` (mean over the batches since the line before) and, where clicks have
one, `confidence` (their mean in this epoch so far).
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

FILE = "steps.jsonl"


def read_curve(path: pathlib.Path) -> list[dict[str, float]]:
    """The lines of a curve; none where there is no file. A last line that was cut is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


class LearningCurve:
    """Writes a curve, or goes on with the one that an interrupted training left.

    Args:
      path: of the file.
      done: batches trained on before; later lines, of steps that are taken again, are dropped.
      every: steps between lines; there is one at the end of each epoch too.
      clock: tells seconds.
    """

    def __init__(
        self,
        path: pathlib.Path,
        done: int,
        every: int = 50,
        clock: Callable[[], float] = time.monotonic,
    ):
        """See the class."""
        kept = [line for line in read_curve(path) if line["step"] <= done]
        self._before = kept[-1]["seconds"] if kept else 0.0
        self._clock, self._began = clock, clock()
        self._step, self._every = done, every
        self._written = kept[-1]["step"] if kept else -1
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(kept, "w")
        self.begin_epoch()

    @property
    def seconds(self) -> float:
        """Of training so far, over all resumes."""
        return self._before + self._clock() - self._began

    def begin_epoch(self, first: int = 0) -> None:
        """Means begin anew, or go on.

        Args:
          first: batches of the epoch that were trained on before an interruption, of which the
            means that are logged know.
        """
        self._first, self._batches, self._batches_before, self._sum_before = first, 0, 0, 0.0
        start = step = self._step - first
        for line in read_curve(self._path):
            if start < line["step"]:
                self._sum_before += line["loss"] * (line["step"] - step)
                step = int(line["step"])
        self._batches_before = step - start

    def add(self, batches: int, logs: Mapping[str, float]) -> None:
        """Counts steps, and writes a line where one is due.

        Args:
          batches: trained on in this epoch, by this process.
          logs: means over the epoch so far: `loss`, and perhaps `confidence`.
        """
        before = self._step
        self._step += batches - self._batches
        self._batches = batches
        if self._step // self._every > before // self._every:
            self._end_line(logs)

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """Writes the rest of the epoch."""
        if self._step > self._written:
            self._end_line(logs)

    def _end_line(self, logs: Mapping[str, float]) -> None:
        batches = self._first + self._batches
        total = float(logs["loss"]) * batches
        # The mean since the line before, from two means since the epoch's first batch.
        loss = (total - self._sum_before) / max(1, batches - self._batches_before)
        self._batches_before, self._sum_before = batches, total
        line = {"step": self._step, "seconds": round(self.seconds, 3), "loss": loss}
        if "confidence" in logs:
            line["confidence"] = float(logs["confidence"])
        self._written = self._step
        self._write([line], "a")

    def _write(self, lines: Sequence[Mapping[str, float]], mode: str) -> None:
        with self._path.open(mode, encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
