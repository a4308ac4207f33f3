"""The click log of an online world: its spec, its rows, and the requests that fit it."""

from __future__ import annotations

import dataclasses
import pathlib
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.simulation import DAY_MS, Clicks
from experiments.online_world import OnlineWorld, Requests

HISTORY = 10
_EPOCH_MS = 1_704_067_200_000  # 1 January 2024
_SCENE_BITS = np.array([1, 2, 4])
_SPEC = string.Template("""\
name = "online"

[input]
files = "day-*.parquet"

# A model learns from the days $first to $last; earlier ones are the histories of its users.
[split]
day_column = "day"
train_from = $first
valid_from = $next
test_from = $after

[history]
length = $history

[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "int", encoding = "vocabulary" }
item_category = { type = "int", encoding = "identity", num_values = $categories }
hour = { type = "int", encoding = "identity", num_values = 24, dim = 8 }
scene = { type = "int", encoding = "identity", num_values = 8, dim = 8 }
activity = { role = "group", type = "int", encoding = "identity", num_values = $groups }
click = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "int" }
time_ms = { role = "timestamp", type = "int", unit = "ms" }
day = { role = "ignore", type = "int" }
""")


def spec_text(world: OnlineWorld, first: int, last: int) -> str:
    """The spec of the rows that a model of the days `first` to `last` learns from."""
    return _SPEC.substitute(
        first=first,
        last=last,
        next=last + 1,
        after=last + 2,
        history=HISTORY,
        categories=world.options.categories,
        groups=len(world.options.noise_rates),
    )


@dataclasses.dataclass(frozen=True)
class Shown:
    """Answers of a day, and what came of them.

    Attributes:
      requests: that were answered.
      items: int64 [requests, shown].
      clicks: of [requests * shown].
    """

    requests: Requests
    items: np.ndarray
    clicks: Clicks

    @property
    def long_view(self) -> np.ndarray:
        """Whether the user was satisfied, bool [requests * shown]; never without a click."""
        return np.nan_to_num(self.clicks.satisfaction, nan=-1.0) > 0.0


class OnlineLog:
    """The files of a log that grows by a day, and the histories of its users."""

    def __init__(self, world: OnlineWorld, directory: pathlib.Path):
        """See the class."""
        self.world, self.directory = world, directory
        directory.mkdir(parents=True, exist_ok=True)
        self._clicked: list[list[int]] = [[] for _ in range(world.options.users)]
        self._day: list[pa.Table] = []

    def add(self, shown: Shown) -> None:
        """Adds rows of the current day; clicks are in the histories of later requests."""
        count = shown.items.shape[1]
        rows = np.repeat(np.arange(len(shown.requests)), count)
        user, item = shown.requests.user[rows], shown.items.ravel()
        hour, scene = request_features(shown.requests)
        milliseconds = shown.requests.milliseconds[rows]
        columns = {
            "user_id": user,
            "item_id": item,
            "item_category": self.world.world.category[item],
            "hour": hour[rows],
            "scene": scene[rows],
            "activity": self.world.group[user],
            "click": shown.clicks.clicked.astype(np.int64),
            "long_view": shown.long_view.astype(np.int64),
            "time_ms": _EPOCH_MS + milliseconds,
            "day": milliseconds // DAY_MS,
        }
        self._day.append(pa.table(columns))
        for place in np.flatnonzero(shown.clicks.clicked):
            self._clicked[user[place]].append(int(item[place]))

    def end_day(self, day: int) -> None:
        """Writes the file of the day."""
        path = self.directory / f"day-{day:03}.parquet"
        pq.write_table(pa.concat_tables(self._day), path)
        self._day = []

    def inputs(self, requests: Requests) -> dict[str, np.ndarray]:
        """What `predict_candidates` of an export is asked: raw columns, the user's once."""
        hour, scene = request_features(requests)
        histories = np.zeros((len(requests), HISTORY), np.int64)
        mask = np.zeros(histories.shape, bool)
        for place, user in enumerate(requests.user):
            last = self._clicked[user][-HISTORY:]
            histories[place, : len(last)] = last
            mask[place, : len(last)] = True
        return {
            "user_id": requests.user,
            "item_id": requests.candidates,
            "item_category": self.world.world.category[requests.candidates],
            "hour": hour,
            "scene": scene,
            "click_history": histories,
            "click_history_mask": mask,
        }


def request_features(requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Hour of the day and scene of the app of each request, int64."""
    hour = requests.milliseconds % DAY_MS // 3_600_000
    return hour, (requests.context > 0) @ _SCENE_BITS
