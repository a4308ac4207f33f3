"""A phase of a run: the training of one model, and where it is kept."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import tensorflow as tf

from clsd_tf import ClickConfidenceModel
from clsd_tf.progressive import ScoredClicks
from data_pipeline.cli import write_json
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset
from data_pipeline.service_client import InputService
from experiments.models import save_model
from experiments.runs import PHASE_RESULT, Run, TrainConfig
from experiments.strategies import Distribution


@dataclasses.dataclass(frozen=True)
class Phase:
    """The training of one model of a run.

    Attributes:
      name: "teacher", "fold_0", ..., "generation_1", ... or "student".
      run: that it belongs to.
      config: of the run.
      checkpoint_steps: batches between checkpoints.
      scores: directory of the teacher's scores, if the model is taught by stored ones.
      without_fold: what of the training rows is left out, see `make_dataset`.
      teacher_clicks: impressions that the teacher scored before it trained on them; None where
        there are none, or better ones.
      details: whether TensorBoard is to show more than scalars and groups.
      distribution: the processes that train it.
      service: that reads the training rows; None: this process does.
    """

    name: str
    run: Run
    config: TrainConfig
    checkpoint_steps: int
    scores: pathlib.Path | None = None
    without_fold: tuple[int, int] | None = None
    teacher_clicks: ScoredClicks | None = None
    details: bool = False
    distribution: Distribution = dataclasses.field(default_factory=Distribution)
    service: InputService | None = None

    @property
    def directory(self) -> pathlib.Path:
        """Where checkpoints, weights and the phase's result are kept."""
        return self.run.directory / self.name

    @property
    def shows_values(self) -> bool:
        """Whether confidences and vectors are shown: those that one device trains."""
        return self.details and self.distribution.cluster.strategy == "default"

    @property
    def result(self) -> dict | None:
        """What came of the phase, or None until it is done."""
        path = self.directory / PHASE_RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def is_done(self) -> bool:
        """Whether there is a result, as the chief sees it."""
        return bool(self.distribution.agree(self.result is not None))

    @property
    def fraction(self) -> float:
        """Share of the batches of each epoch that is trained on; rows are in random order."""
        return self.config.teacher_fraction if self.name == "teacher" else 1.0

    def held_out(self) -> tf.data.Dataset | ScoredClicks:
        """Rows that the teacher has not trained on.

        Those of its folds, or of its first pass, and else validation rows.
        """
        if self.teacher_clicks is not None:
            return self.teacher_clicks
        split = "train" if self.config.teacher == "oof" else "valid"
        if split == "valid" and not Manifest.load(self.config.data_dir).rows.get(split):
            raise no_validation("The confidence function is fitted")
        # Scores and groups are all that is read.
        return make_dataset(
            self.config.data_dir, split, 4096, shuffle=False, columns=[], scores=self.scores
        )

    def finish(self, model: ClickConfidenceModel, result: dict[str, object]) -> None:
        """Keeps the model, then says that the phase is done."""
        with self.distribution.written(self.directory) as directory:
            save_model(model, directory)
            write_json(directory / PHASE_RESULT, result)


def no_validation(what: str) -> ValueError:
    """The error of a data set without validation rows, on which `what` is done."""
    return ValueError(
        f"{what} on validation rows, and the data set has none. Received: valid = 0 rows. "
        "Prepare the log with a validation day (`split.valid_from`) or fraction."
    )
