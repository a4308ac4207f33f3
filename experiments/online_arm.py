"""One arm of an online experiment: it serves its users, and is trained on what they clicked."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import pathlib
import shutil
import time
from collections.abc import Iterator

import numpy as np
import tf_keras as keras

from clsd_tf import Encoder, export_model
from clsd_tf.versions import remove_old_versions
from data_pipeline.cli import write_json
from data_pipeline.data_set import WriteOptions
from data_pipeline.manifest import data_checksum
from data_pipeline.preparation import ReadOptions, prepare
from data_pipeline.simulation import stream
from experiments.models import load_model
from experiments.online_log import OnlineLog, Shown, spec_text
from experiments.online_world import OnlineWorld, Requests
from experiments.runs import PHASE_RESULT, Run, TrainConfig
from experiments.served import ServedModel
from experiments.training import train_run

_CHECKPOINT_STEPS = 10_000  # the end of a day is the only one


@dataclasses.dataclass(frozen=True)
class DayOfArm:
    """What came of a day.

    Attributes:
      day: it.
      impressions: items that were shown.
      click_rate: clicks of impressions.
      satisfied_rate: long views of impressions: what the clicks were worth.
      interested_rate: clicks that interest caused, of impressions; only a simulation knows them.
      interest: mean probability of interest in what was shown.
      regret: how much less than that of the best choice of the candidates.
      train_seconds: CPU time of the training after the day.
      serve_seconds: wall time of the export's answers.
      confidence: mean confidence of the day's clicks in training; nan without one.
      noise_rates: that the confidence function has found, by group.
    """

    day: int
    impressions: int
    click_rate: float
    satisfied_rate: float
    interested_rate: float
    interest: float
    regret: float
    train_seconds: float = 0.0
    serve_seconds: float = 0.0
    confidence: float = float("nan")
    noise_rates: dict[str, float] = dataclasses.field(default_factory=dict)


class OnlineArm:
    """An arm with a log, runs and versions of its own.

    Args:
      name: of the arm.
      world: that it serves.
      config: of its trainings; data set and directories are filled in day by day. None for an arm
        that learns nothing and answers at random: the floor.
      directory: where everything goes.
      warm_start: whether a day's training goes on from the one before, on the day's rows; else each
        begins anew, on the rows of all days.
    """

    def __init__(
        self,
        name: str,
        world: OnlineWorld,
        config: TrainConfig | None,
        directory: pathlib.Path,
        *,
        warm_start: bool = True,
    ):
        """See the class."""
        self.name, self.world, self.config = name, world, config
        self.directory, self.warm_start = directory, warm_start
        self.log = OnlineLog(world, directory / "log")
        self._served: ServedModel | None = None
        self._run: Run | None = None
        self._random = stream(world.seed, "explored requests")

    def serve(self, day: int, requests: Requests) -> DayOfArm:
        """Answers the requests of a day, in rounds: a user's click is known in the next one."""
        options, answers, seconds = self.world.options, [], 0.0
        for number, round_ in enumerate(_rounds(requests)):
            started = time.perf_counter()
            scores = self._scores(round_)
            seconds += time.perf_counter() - started
            order = np.argsort(-scores, axis=1, kind="stable")[:, : options.shown]
            items = np.take_along_axis(round_.candidates, order, axis=1)
            draw = f"{self.name}, day {day}, round {number}"
            shown = Shown(round_, items, self.world.respond(round_, items, draw))
            self.log.add(shown)
            answers.append(shown)
        self.log.end_day(day)
        return dataclasses.replace(self._summary(day, answers), serve_seconds=seconds)

    def learn(self, day: int) -> dict[str, object]:
        """Trains on the rows of a day, exports, and serves the new version from then on.

        Returns:
          `train_seconds`, `confidence` and `noise_rates` as in `DayOfArm`; nothing of an arm that
          learns nothing.
        """
        if self.config is None:
            return {}
        data, run = self.directory / f"data-{day}", Run(self.directory / f"run-{day}")
        earliest = self.directory / "data-0"
        spec = self.directory / "spec.toml"
        first_day = day if self.warm_start else 0
        spec.write_text(spec_text(self.world, first_day, day), encoding="utf-8")
        config = self.config
        with _quiet(self.directory / "train.log"):
            encoding = None if day == 0 else str(earliest)
            write = WriteOptions(encoding_from=encoding, seed=config.seed + day)
            prepare(str(spec), str(self.log.directory), data, ReadOptions(), write)
            config = dataclasses.replace(config, data_dir=str(data), data=data_checksum(data))
            if self.warm_start and self._run is not None:
                config = dataclasses.replace(config, init_from=str(self._run.directory))
            run.begin(config, overwrite=False)
            started = time.process_time()
            metrics = train_run(run, config, checkpoint_steps=_CHECKPOINT_STEPS)
            seconds = time.process_time() - started
            write_json(run.results, {"metrics": metrics})
            model = load_model(run, config)
            base = self.directory / "served"
            version = export_model(
                model, Encoder.load(run.encoding), base, output_meaning=run.output_meaning()
            )
        remove_old_versions(base, keep=2)
        self._served = ServedModel(version)
        for old in (self._run.directory if self._run else None, data if day else None):
            if old is not None:
                shutil.rmtree(old)
        self._run = run
        del model
        keras.backend.clear_session()
        gc.collect()
        return {"train_seconds": seconds, **_confidence(run)}

    def _scores(self, requests: Requests) -> np.ndarray:
        """[requests, candidates]; what is explored has random ones."""
        random = self._random.random(requests.candidates.shape)
        if self._served is None:  # nothing was learned yet
            return random
        scores = self._served.answer("predict_candidates", self.log.inputs(requests))
        explored = self._random.random((len(requests), 1)) < self.world.options.explored
        return np.where(explored, random, scores)

    def _summary(self, day: int, answers: list[Shown]) -> DayOfArm:
        interest, best, clicked, interested, satisfied = [], [], [], [], []
        for shown in answers:
            interest.append(shown.clicks.interest_probability)
            possible = self.world.interest(shown.requests, shown.requests.candidates)
            best.append(np.sort(possible, axis=1)[:, -shown.items.shape[1] :].ravel())
            clicked.append(shown.clicks.clicked)
            interested.append(shown.clicks.clicked & ~shown.clicks.is_noise)
            satisfied.append(shown.long_view)
        mean = {
            name: float(np.concatenate(values).mean())
            for name, values in {
                "interest": interest,
                "best": best,
                "click_rate": clicked,
                "interested_rate": interested,
                "satisfied_rate": satisfied,
            }.items()
        }
        return DayOfArm(
            day=day,
            impressions=sum(len(each) for each in clicked),
            click_rate=mean["click_rate"],
            satisfied_rate=mean["satisfied_rate"],
            interested_rate=mean["interested_rate"],
            interest=mean["interest"],
            regret=mean["best"] - mean["interest"],
        )


def _rounds(requests: Requests) -> Iterator[Requests]:
    """The first requests of all users, then their second ones, and so on."""
    order = np.argsort(requests.user, kind="stable")
    users = requests.user[order]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
    lengths = np.diff(np.r_[starts, len(users)])
    number = np.empty(len(users), np.int64)
    number[order] = np.arange(len(users)) - np.repeat(starts, lengths)
    for each in range(number.max(initial=-1) + 1):
        yield requests.select(number == each)


def _confidence(run: Run) -> dict[str, object]:
    """What the student of a run was told of its clicks."""
    result = json.loads((run.student / PHASE_RESULT).read_text(encoding="utf-8"))
    table = result.get("confidence", [])
    mean = result["epochs"][-1].get("confidence")
    return {
        "confidence": float("nan") if mean is None else mean,
        "noise_rates": {row["group"]: row["noise_rate"] for row in table if "noise_rate" in row},
    }


@contextlib.contextmanager
def _quiet(path: pathlib.Path) -> Iterator[None]:
    """What a day's preparation and training say on standard error goes to a file."""
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        yield
