"""The directory of a training run: what it was asked to do, and where its parts are."""

from __future__ import annotations

import dataclasses
import filecmp
import json
import pathlib
import shutil
from collections.abc import Collection

from clsd_tf.compatibility import check_same_columns
from clsd_tf.precision import check_precision
from clsd_tf.spec import read_spec
from data_pipeline.cli import write_json
from data_pipeline.manifest import Manifest
from experiments.trusted import require_trusted, trust

_CONFIG, _RESULTS, _SPEC = "config.json", "results.json", "spec.toml"
# Its presence says that a phase is done.
PHASE_RESULT = "phase.json"
# Where a teacher comes from.
TEACHERS = {
    "frozen": "trained first, applied to each batch",
    "scores": "trained first, its scores are stored beside the shards and read with the rows",
    "ema": "the running average of the student's own weights; one training",
    "oof": "stored scores, each by a model that was trained on the other folds",
}
# Added to the seed for a teacher. Other weights and another order of rows make its errors others
# than the student's, which a teacher of the same seed would only confirm.
TEACHER_SEED = 1000


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All that decides what a run learns.

    Attributes:
      data_dir: prepared data set.
      data: checksum of its manifest: the same rows in the same shards.
      backbone: see `clsd_tf.get_backbone`.
      backbone_options: arguments of the backbone.
      precision: what backbones compute in, see `clsd_tf.precision`.
      method: name of an arm.
      options: of the arm, see `experiments.arms`.
      confidence_options: arguments of the confidence function.
      method_options: further options of the arm, by name.
      teacher: where the teacher comes from, see `TEACHERS`.
      teacher_dir: finished run whose student is the teacher; None trains one.
      scores_dir: scores of the training and validation rows, with "scores"; None writes them.
      num_folds: models of "oof".
      teacher_fraction: share of each epoch's batches that a teacher is trained on, in (0, 1].
      generations: students that are trained one after the other, each taught by the one before.
      init_from: finished run that goes on here, on other rows: its models, their optimizers and
        what confidence has learned; None begins anew.
      seed: of initial weights and of the order of rows; a teacher has another, `TEACHER_SEED`.
      epochs: passes over the training rows, for teacher and student each.
      batch_size: impressions a step, of all replicas together.
      input_shares: that the rows are divided into, one or several for each replica; their number
        decides which rows a batch holds, whoever reads them.
      optimizer: "default" (Adam, and row-wise Adagrad for tables) or "adam" for everything.
      learning_rate: of dense weights.
      embedding_learning_rate: of embedding tables, with "default".
      calibrate: whether the student's output is calibrated on validation rows.
    """

    data_dir: str
    data: str
    backbone: str = "dcn_v2"
    backbone_options: dict[str, object] = dataclasses.field(default_factory=dict)
    precision: str = "float32"
    method: str = "clsd"
    options: dict[str, str | float] = dataclasses.field(default_factory=dict)
    confidence_options: dict[str, object] = dataclasses.field(default_factory=dict)
    method_options: dict[str, object] = dataclasses.field(default_factory=dict)
    teacher: str = "frozen"
    teacher_dir: str | None = None
    scores_dir: str | None = None
    num_folds: int = 3
    teacher_fraction: float = 1.0
    generations: int = 1
    init_from: str | None = None
    seed: int = 0
    epochs: int = 1
    batch_size: int = 512
    input_shares: int = 1
    optimizer: str = "default"
    learning_rate: float = 1e-3
    embedding_learning_rate: float = 0.03
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.scores_dir and (self.teacher != "scores" or self.teacher_dir):
            raise ValueError(
                "--scores_dir says what the teacher thinks. Received: "
                f"--teacher={self.teacher}, --teacher_dir={self.teacher_dir}. Expected: "
                "--teacher=scores, without --teacher_dir."
            )
        replaceable = self.teacher in ("frozen", "scores")
        if self.teacher_dir and not replaceable:
            raise ValueError(
                f"--teacher={self.teacher} makes its own teacher. Received: "
                f"--teacher_dir={self.teacher_dir}. Leave it out, or choose another --teacher."
            )
        if self.generations > 1 and not replaceable:
            raise ValueError(
                f"Generations need a teacher that a student can replace. Received: "
                f"--generations={self.generations} with --teacher={self.teacher}. Expected: "
                "--teacher=frozen or --teacher=scores."
            )
        check_precision(self.precision)
        if not 0.0 < self.teacher_fraction <= 1.0:
            raise ValueError(
                "--teacher_fraction is a share of the teacher's batches. Received: "
                f"{self.teacher_fraction}. Expected: more than 0, and at most 1."
            )
        is_trained = replaceable and not (self.teacher_dir or self.scores_dir)
        if self.teacher_fraction < 1.0 and not is_trained:
            raise ValueError(
                "--teacher_fraction is for a teacher that the run trains itself. Received: "
                f"--teacher={self.teacher}, --teacher_dir={self.teacher_dir}, "
                f"--scores_dir={self.scores_dir}. Leave it out, or give --teacher=frozen or "
                "--teacher=scores alone."
            )

    def differences(self, other: TrainConfig, free: Collection[str] = ()) -> dict[str, str]:
        """Field that differs, and is not `free` -> both values; a data set may have moved."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        names = sorted(mine.keys() - {"data_dir", *free})
        return {
            n: f"{n}: now {mine[n]!r}, then {theirs[n]!r}" for n in names if mine[n] != theirs[n]
        }


class Run:
    """Paths in the directory of a run.

    config.json   teacher/   student/   logs/   encoding/   export/<version>/   results.json
    """

    def __init__(self, directory: str | pathlib.Path):
        self.directory = pathlib.Path(directory)
        self.teacher = self.directory / "teacher"
        self.student = self.directory / "student"
        self.logs = self.directory / "logs"
        self.encoding = self.directory / "encoding"
        self.export = self.directory / "export"
        self.results = self.directory / _RESULTS

    def evaluation(self, split: str) -> pathlib.Path:
        """Where the evaluation on `split` is kept."""
        return self.directory / "evaluation" / split

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return self.results.exists()

    def begin(self, config: TrainConfig, *, overwrite: bool) -> None:
        """Makes the directory, or checks that it is of the same run, which then goes on.

        Who gives the config trusts the backbone that it names.

        Raises:
          ValueError: it is of another run, or no run at all.
        """
        trust(config.backbone)
        path = self.directory / _CONFIG
        if overwrite and path.exists():
            shutil.rmtree(self.directory)
        # What a process that was killed was writing.
        pattern = "**/.*.tmp" if path.exists() else f".{_CONFIG}.*.tmp"
        for left in self.directory.glob(pattern):
            left.unlink()
        if path.exists():
            if listed := "; ".join(config.differences(self.config()).values()):
                raise ValueError(
                    f"{self.directory} holds a run with other options. Received: {listed}. "
                    "Expected: the same. Resume it with its own options, choose another "
                    "--model_dir, or pass --overwrite."
                )
        elif self.directory.exists() and any(self.directory.iterdir()):
            raise ValueError(
                f"{self.directory} is not empty and holds no run. Received: that --model_dir. "
                "Expected: a folder that is empty or not there; choose another one."
            )
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(path, dataclasses.asdict(config))

    def config(self) -> TrainConfig:
        """What the run was asked to do.

        Raises:
          ValueError: the directory holds no run of this version, or names code that nobody here
            has named (`require_trusted`).
        """
        path = self.directory / _CONFIG
        if not path.exists():
            raise ValueError(
                f"Not a run: {self.directory} has no {_CONFIG}. Received: {self.directory}. "
                "Expected: a --model_dir of `clsd-train`."
            )
        try:
            config = TrainConfig(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a config of this version. Received: {error}. Expected: a run of "
                "this version; train it again with --overwrite."
            ) from error
        require_trusted(config.backbone, path)
        return config

    def require_continuable(self, config: TrainConfig) -> None:
        """Raises ValueError unless a run of `config` can go on from this one."""
        self.require_finished()
        free = {"data", "init_from", "teacher_dir", "scores_dir", "seed", "epochs", "batch_size"}
        free |= {"calibrate"}
        if listed := "; ".join(config.differences(self.config(), free).values()):
            raise ValueError(
                f"The run in {self.directory} cannot go on with other options. Received: {listed}. "
                f"Expected: the options of that run; {', '.join(free)} may differ."
            )
        self.require_same_encoding(config.data_dir, may_grow=True)

    def output_meaning(self) -> str:
        """What a probability of the trained student estimates."""
        return json.loads((self.student / PHASE_RESULT).read_text(encoding="utf-8"))["outputs"]

    def require_finished(self) -> None:
        """Raises ValueError unless training came to its end."""
        self.config()
        if not self.is_finished:
            raise ValueError(
                f"The run in {self.directory} is not finished. Received: no {_RESULTS} there. "
                "Expected: a finished run. Start its `clsd-train` again, which goes on where it "
                "stopped."
            )

    def require_same_encoding(
        self, data_dir: str | pathlib.Path, *, may_grow: bool = False
    ) -> None:
        """Raises ValueError unless the ids of `data_dir` mean what they meant in training.

        Args:
          data_dir: prepared data set.
          may_grow: whether its vocabularies may have further tokens at their ends.
        """
        Manifest.load(data_dir)
        check_same_columns(
            read_spec(pathlib.Path(data_dir) / _SPEC), read_spec(self.encoding / _SPEC)
        )
        tables = [p for p in self.encoding.rglob("*") if p.is_file() and p.name != _SPEC]
        for path in sorted(tables):
            other = pathlib.Path(data_dir) / path.relative_to(self.encoding)
            if not other.exists() or not _is_same(path, other, may_grow=may_grow):
                raise ValueError(
                    f"{data_dir} is encoded by other tables than the run was trained on. "
                    f"Received: {other}, which differs from {path}. Use the data set that the run "
                    "was trained on, or prepare the log with --encoding_from naming it; where "
                    "vocabularies have grown, a run goes on by `clsd-train --init_from`."
                )


def finished_run(
    model_dir: str | pathlib.Path, data_dir: str | pathlib.Path | None
) -> tuple[Run, TrainConfig, str]:
    """Opens a finished run and the data set to use it on.

    Args:
      model_dir: of the run.
      data_dir: prepared data set; None for that of the run.

    Returns:
      The run, its config, and the data set.

    Raises:
      ValueError: the run is not finished, or the data set is encoded otherwise.
    """
    run = Run(model_dir)
    run.require_finished()
    config = run.config()
    data_dir = str(data_dir or config.data_dir)
    run.require_same_encoding(data_dir)
    return run, config, data_dir


def _is_same(path: pathlib.Path, other: pathlib.Path, *, may_grow: bool) -> bool:
    if filecmp.cmp(path, other, shallow=False):
        return True
    if not may_grow:
        return False
    if path.suffix == ".txt":
        return other.read_bytes().startswith(path.read_bytes())
    mine, theirs = (json.loads(p.read_text(encoding="utf-8")) for p in (path, other))
    return {**mine, "vocabulary_sizes": None} == {**theirs, "vocabulary_sizes": None}
