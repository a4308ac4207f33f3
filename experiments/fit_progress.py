"""What is seen of a comparison while its fits are trained."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.runs import TrainConfig


class FitProgress:
    """A bar on standard error, and a line for each fit.

    Args:
      total: fits to train.
      exact: whether there may not be fewer.
    """

    def __init__(self, total: int, exact: bool):
        """See the class."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        # What trainings say goes to their logs; the bar keeps the terminal that it began on.
        self._console = Console(file=sys.stderr)
        self._progress = Progress(
            *columns,
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("fits" if exact else "fits, at most", total=total)

    def __enter__(self) -> FitProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def add(self, config: TrainConfig, seconds: float) -> None:
        """Counts a fit that was trained."""
        self._progress.advance(self._task)
        options = ", ".join(f"{name} {value}" for name, value in config.options.items())
        self._console.print(
            f"{config.method}, {config.backbone}, {config.data_dir}, seed {config.seed}"
            f"{', ' * bool(options)}{options}: {seconds:.1f} s",
            highlight=False,
            soft_wrap=True,
        )
