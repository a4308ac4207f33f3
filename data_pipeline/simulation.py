"""A small world of users and items in which it is known which click carries interest.

An impression interests its user with a probability that depends on taste (which includes the
preference for categories), the item's quality, the user, and the context. If it does, it is
clicked; if not, it is clicked all the same at a noise rate e:

    P(click | x) = e(x) + (1 - e(x)) * p(x),    p = interest probability

What a log of this world looks like is in `data_pipeline.simulated_columns`.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np

NUM_FACTORS = 8
NUM_CONTEXTS = 3
DAY_MS = 86_400_000
# Requests with so many items, which share their time: ties within a user's history.
_PAGE_SHARES = (0.6, 0.2, 0.1, 0.1)
# Impressions by hour of the day: few at night, most in the evening.
_HOURLY = 1.2 - np.cos(2 * np.pi * (np.arange(24) - 4) / 24)


@dataclasses.dataclass(frozen=True)
class WorldSize:
    """How much is simulated, and from which seed."""

    rows: int = 200_000
    users: int = 5_000
    items: int = 2_000
    categories: int = 20
    seed: int = 0

    def __post_init__(self):
        """Checks the sizes."""
        smallest = {"rows": 1, "users": 1, "items": 2 * len(_PAGE_SHARES), "categories": 1}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be >= {least}. Received: {name}={getattr(self, name)}."
                )


@dataclasses.dataclass(frozen=True)
class World:
    """Users and items.

    Attributes:
      user_factors, item_factors: float32 `[n, NUM_FACTORS + 1]`; the last column is the bias.
      activity: float32 `[users]`, standard normal; active users see more and like less of it.
      category: int64 `[items]`.
      popularity: float64 `[items]`, shares of the impressions.
    """

    size: WorldSize
    user_factors: np.ndarray
    item_factors: np.ndarray
    activity: np.ndarray
    category: np.ndarray
    popularity: np.ndarray


@dataclasses.dataclass(frozen=True)
class Impressions:
    """What was shown, ordered by time.

    Attributes:
      user, item: int64 `[rows]`, indices into the world.
      request: int64 `[rows]`, rising; the items of a request share user, time and context.
      position: int64 `[rows]`, place within the request.
      milliseconds: int64 `[rows]`, since the first midnight.
      context: float32 `[rows, NUM_CONTEXTS]`, standard normal; the first follows the hour.
    """

    user: np.ndarray
    item: np.ndarray
    request: np.ndarray
    position: np.ndarray
    milliseconds: np.ndarray
    context: np.ndarray

    @property
    def day(self) -> np.ndarray:
        """int64 `[rows]`, 0 for the first day."""
        return self.milliseconds // DAY_MS

    @property
    def hour(self) -> np.ndarray:
        """int64 `[rows]`, 0 to 23."""
        return self.milliseconds % DAY_MS // 3_600_000


@dataclasses.dataclass(frozen=True)
class Clicks:
    """What came of the impressions.

    Attributes:
      interest_probability: float32 `[rows]`.
      clicked, is_noise: bool `[rows]`; a noise click is a click without interest.
      satisfaction: float32 `[rows]`, higher after clicks with interest, NaN without a click.
    """

    interest_probability: np.ndarray
    clicked: np.ndarray
    is_noise: np.ndarray
    satisfaction: np.ndarray


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one part of a simulation, whatever the other parts draw."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def draw_world(size: WorldSize) -> World:
    """Draws users and items."""
    rng = stream(size.seed, "world")
    activity = rng.standard_normal(size.users, np.float32)
    user_factors = rng.standard_normal((size.users, NUM_FACTORS + 1), np.float32)
    user_factors[:, -1] -= 0.6 * activity

    # The categories differ, items within one differ less: taste is above all one for categories.
    category = rng.integers(size.categories, size=size.items)
    centres = rng.standard_normal((size.categories, NUM_FACTORS + 1), np.float32)
    own = rng.standard_normal((size.items, NUM_FACTORS + 1), np.float32)
    item_factors = np.float32(0.8) * centres[category] + np.float32(0.6) * own

    rank = rng.permutation(size.items) + 1
    popularity = (rank + 10.0) ** -0.8 * np.exp(0.3 * item_factors[:, -1])
    return World(
        size, user_factors, item_factors, activity, category, popularity / popularity.sum()
    )


def draw_impressions(world: World, days: int) -> Impressions:
    """Draws who is shown what and when, over so many days."""
    rng = stream(world.size.seed, "impressions")
    rows = world.size.rows
    # No more requests are needed than rows; the last one is cut where the rows are full.
    pages = rng.choice(len(_PAGE_SHARES), size=rows, p=_PAGE_SHARES) + 1
    ends = np.cumsum(pages)
    pages = pages[: np.searchsorted(ends, rows) + 1]
    pages[-1] -= pages.sum() - rows

    requests = len(pages)
    hour = rng.choice(24, size=requests, p=_HOURLY / _HOURLY.sum())
    within = rng.integers(3_600_000, size=requests)
    milliseconds = np.sort(rng.integers(days, size=requests) * DAY_MS + hour * 3_600_000 + within)
    weights = np.exp(0.6 * world.activity.astype(np.float64))
    user = draw(rng, weights / weights.sum(), requests)
    context = rng.standard_normal((requests, NUM_CONTEXTS), np.float32)
    angle = 2 * np.pi * (milliseconds % DAY_MS) / DAY_MS
    context[:, 0] = np.sqrt(2) * np.cos(angle - 5.5)

    request = np.repeat(np.arange(requests), pages)
    position = np.arange(rows) - np.repeat(np.cumsum(pages) - pages, pages)
    item = draw(rng, world.popularity, rows)
    # A request shows an item once.
    while len(again := _repeated(request * world.size.items + item)):
        item[again] = draw(rng, world.popularity, len(again))
    return Impressions(
        user[request], item, request, position, milliseconds[request], context[request]
    )


def interest_logit(world: World, impressions: Impressions) -> np.ndarray:
    """Log odds of interest, float32 `[rows]`."""
    users, items = world.user_factors[impressions.user], world.item_factors[impressions.item]
    taste = np.einsum("ij,ij->i", users[:, :-1], items[:, :-1]) / np.float32(NUM_FACTORS**0.5)
    context = impressions.context @ np.array([0.3, 0.3, 0.2], np.float32)
    parts = (0.8 * taste, 0.4 * users[:, -1], 0.45 * items[:, -1], context)
    total = functools.reduce(np.add, [part.astype(np.float32) for part in parts])
    return np.float32(-1.35) + total


def interest_probability(world: World, impressions: Impressions) -> np.ndarray:
    """The chance of interest, float32 `[rows]`."""
    logit = interest_logit(world, impressions)
    return 1 / (1 + np.exp(-logit))


def draw_clicks(world: World, impressions: Impressions, noise_rate: np.ndarray) -> Clicks:
    """Draws interest, noise and satisfaction.

    Args:
      world: users and items.
      impressions: what was shown.
      noise_rate: `[rows]`, the chance of a click without interest. Rows with the same rate get the
        same clicks whatever the rate of others is.
    """
    rng = stream(world.size.seed, "clicks")
    rows = len(impressions.user)
    logit = interest_logit(world, impressions)
    probability = 1 / (1 + np.exp(-logit))
    interested = rng.random(rows, np.float32) < probability
    is_noise = ~interested & (rng.random(rows, np.float32) < noise_rate)
    clicked = interested | is_noise
    mean = np.where(interested, 1.0 + 0.3 * logit, -0.9 + 0.1 * logit)
    satisfaction = mean.astype(np.float32) + rng.standard_normal(rows, np.float32)
    return Clicks(
        probability, clicked, is_noise, np.where(clicked, satisfaction, np.float32(np.nan))
    )


def draw(rng: np.random.Generator, shares: np.ndarray, count: int) -> np.ndarray:
    """Indices drawn with replacement by their shares, int64 `[count]`."""
    ends = np.cumsum(shares)
    return np.searchsorted(ends, rng.random(count) * ends[-1], side="right").clip(
        max=len(shares) - 1
    )


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Places of keys that occurred before."""
    order = np.argsort(keys, kind="stable")
    return order[1:][keys[order[1:]] == keys[order[:-1]]]
