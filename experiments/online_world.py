"""A world that answers what it is shown: users with tastes, items, requests, clicks.

Interest is that of `data_pipeline.simulation`: P(click) = e + (1 - e) * p, with p the probability
of interest and e the noise rate of the user's group, or of the item where it is clickbait. What is
shown is up to whoever serves; what is asked for, and by whom, is the same for all.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.simulation import (
    DAY_MS,
    NUM_CONTEXTS,
    Clicks,
    Impressions,
    World,
    WorldSize,
    draw_clicks,
    draw_world,
    interest_logit,
    stream,
)

_MOST_REQUESTS = 6  # of a user in a day
_CLICKBAIT_RATE = 0.4


@dataclasses.dataclass(frozen=True)
class OnlineOptions:
    """How large the world is, and how it clicks.

    Attributes:
      users, items, categories: how many.
      requests: of a user and day, on average.
      candidates: items to choose from in a request.
      shown: items that are shown of them.
      noise_rates: chance of a click without interest, from the least active group to the most.
      clickbait: share of the items that are clicked without interest at a rate of 0.4 at least.
      explored: share of the requests that are answered at random.
    """

    users: int = 600
    items: int = 300
    categories: int = 15
    requests: float = 2.0
    candidates: int = 20
    shown: int = 4
    noise_rates: tuple[float, ...] = (0.05, 0.10, 0.20, 0.35)
    clickbait: float = 0.0
    explored: float = 0.1


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests with their candidates.

    Attributes:
      user: int64 [requests].
      milliseconds: int64 [requests], since the first midnight.
      context: float32 [requests, NUM_CONTEXTS].
      candidates: int64 [requests, candidates], all different in a request.
    """

    user: np.ndarray
    milliseconds: np.ndarray
    context: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def select(self, chosen: np.ndarray) -> Requests:
        """Some of the requests, by a mask or by indices."""
        return Requests(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))


class OnlineWorld:
    """Users and items of a seed."""

    def __init__(self, options: OnlineOptions, seed: int):
        """See the class."""
        self.options, self.seed = options, seed
        size = WorldSize(1, options.users, options.items, options.categories, seed)
        self.world: World = draw_world(size)
        groups = len(options.noise_rates)
        order = np.argsort(np.argsort(self.world.activity, kind="stable"), kind="stable")
        self.group = order * groups // options.users
        rng = stream(seed, "online")
        self.is_clickbait = rng.random(options.items) < options.clickbait
        # Every second user of each group, after a shuffle: arms are alike in activity.
        shuffled = rng.permutation(options.users)
        by_group = shuffled[np.argsort(self.group[shuffled], kind="stable")]
        self._place = np.empty(options.users, np.int64)
        self._place[by_group] = np.arange(options.users)

    def arm_of(self, arms: int) -> np.ndarray:
        """Which of so many arms serves a user: int64 [users]."""
        return self._place % arms

    def requests(self, day: int) -> Requests:
        """What is asked for on a day, in the order of time."""
        options, rng = self.options, stream(self.seed, f"requests of day {day}")
        weight = np.exp(0.6 * self.world.activity.astype(np.float64))
        mean = options.requests * weight / weight.mean()
        user = np.repeat(np.arange(options.users), np.minimum(rng.poisson(mean), _MOST_REQUESTS))
        user = rng.permutation(user)
        times = day * DAY_MS + np.sort(rng.integers(DAY_MS, size=len(user)))
        context = rng.standard_normal((len(user), NUM_CONTEXTS), np.float32)
        # The largest of noisy log shares are a draw without replacement by these shares.
        noisy = np.log(self.world.popularity) + rng.gumbel(size=(len(user), options.items))
        candidates = np.argpartition(-noisy, options.candidates - 1, axis=1)
        return Requests(user, times, context, candidates[:, : options.candidates])

    def interest(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Probability of interest, float64, in the shape of `items` [requests, any]."""
        logit = interest_logit(self.world, _impressions(requests, items))
        return (1.0 / (1.0 + np.exp(-logit.astype(np.float64)))).reshape(items.shape)

    def respond(self, requests: Requests, items: np.ndarray, draw: str) -> Clicks:
        """What users do with what they are shown.

        Args:
          requests: that were answered.
          items: int64 [requests, shown].
          draw: names the random numbers; others give other clicks.

        Returns:
          Of [requests * shown], row by row.
        """
        rates = np.asarray(self.options.noise_rates, np.float32)[self.group[requests.user]]
        rates = np.repeat(rates, items.shape[1])
        baited = np.maximum(rates, np.float32(_CLICKBAIT_RATE))
        rates = np.where(self.is_clickbait[items.ravel()], baited, rates)
        # The seed of the world names its random numbers; users and items are drawn already.
        seed = int(stream(self.seed, draw).integers(2**31))
        world = dataclasses.replace(
            self.world, size=dataclasses.replace(self.world.size, seed=seed)
        )
        return draw_clicks(world, _impressions(requests, items), rates)


def _impressions(requests: Requests, items: np.ndarray) -> Impressions:
    count = items.shape[1]
    rows = np.repeat(np.arange(len(requests)), count)
    return Impressions(
        user=requests.user[rows],
        item=items.ravel(),
        request=rows,
        position=np.tile(np.arange(count), len(requests)),
        milliseconds=requests.milliseconds[rows],
        context=requests.context[rows],
    )
