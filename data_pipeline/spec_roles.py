"""Which column of an unknown log is the click, the user, the item, the time: by name and values."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterable, Mapping

from data_pipeline.column_profile import ColumnProfile
from data_pipeline.log_sample import RawType
from data_pipeline.spec_words import (
    AUXILIARY,
    CLICK,
    COUNT,
    GROUP,
    ITEM,
    LABEL,
    RATING,
    TIME,
    USER,
    WEIGHT,
)

_SECONDS = (631_152_000, 4_102_444_800)  # 1990 and 2100, as in `data_pipeline.checks`
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}


@dataclasses.dataclass(frozen=True)
class Named:
    """A column as far as roles need it."""

    profile: ColumnProfile
    raw: RawType

    @property
    def words(self) -> tuple[str, ...]:
        """Of its name."""
        return words_of(self.profile.name)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Columns by role, None where no column looks like it.

    Attributes:
      label, user, item, timestamp, weight: names of columns.
      day: column of days, as 20220504 or "2022-05-04".
      unit: of the timestamp; None: ISO 8601.
      positive_from: of the label; None: it is 0 or 1.
    """

    label: str | None
    user: str | None
    item: str | None
    timestamp: str | None
    weight: str | None
    day: str | None
    unit: str | None
    positive_from: float | None

    @property
    def missing(self) -> tuple[str, ...]:
        """Roles that a spec needs and that no column was found for."""
        needed = ("label", "user", "item", "timestamp")
        return tuple(role for role in needed if getattr(self, role) is None)


def words_of(name: str) -> tuple[str, ...]:
    """Words of a column's name: `isClicked`, `is_clicked` -> is, clicked."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.split(r"[^a-z0-9]+", spaced.lower())
    return tuple(
        word
        for joined in words
        for word in (re.sub(r"(?<=[a-z]{3})id$", " id", joined).split() or [])
    )


def find_roles(columns: Iterable[Named], given: Mapping[str, str | None]) -> Roles:
    """Chooses columns; those that are `given` (role -> name) stand.

    Raises:
      ValueError: a given column is not in the log.
    """
    by_name = {column.profile.name: column for column in columns}
    for role, name in given.items():
        if name is not None and name not in by_name:
            raise ValueError(
                f"--{role} names no column of the log. Received: {name!r}. Expected one of: "
                f"{', '.join(by_name)}."
            )
    taken = {name for name in given.values() if name is not None}
    chosen = dict(given)
    finders = {
        "label": _label_score,
        "user": lambda column: _id_score(column, USER),
        "item": lambda column: _id_score(column, ITEM),
        "timestamp": _time_score,
        "weight": _weight_score,
        "day": _day_score,
    }
    for role, score in finders.items():
        if chosen.get(role) is None:
            free = (column for name, column in by_name.items() if name not in taken)
            chosen[role] = _best(free, score)
            taken.add(chosen[role])
    label, time = by_name.get(chosen["label"]), by_name.get(chosen["timestamp"])
    return Roles(
        **{role: chosen[role] for role in finders},
        unit=unit_of(time) if time else None,
        positive_from=_threshold(label) if label else None,
    )


def unit_of(column: Named) -> str | None:
    """The unit of an epoch; None where values are none, or of several units."""
    low, high = column.profile.low, column.profile.high
    if column.profile.type != "int" or low is None:
        return None
    fitting = [u for u, n in _UNITS.items() if _SECONDS[0] * n <= low and high < _SECONDS[1] * n]
    return fitting[0] if fitting else None


def looks_like_group(column: Named) -> bool:
    """Whether a property of users could divide them into groups."""
    profile, words = column.profile, column.words
    if profile.is_list or profile.distinct < 2:
        return False
    by_name = any(word in GROUP for word in words) and profile.distinct <= 50
    is_count = profile.type == "int" and any(word in COUNT for word in words)
    return (by_name and profile.type != "float") or is_count


def is_day(column: Named) -> bool:
    """Whether all values are days such as 20220504 or "2022-05-04"."""
    profile = column.profile
    if profile.is_list or not profile.examples:
        return False
    if profile.type == "int":
        extremes = (str(int(profile.low)), str(int(profile.high)), *profile.examples)
        return all(_parses(text, "%Y%m%d") for text in extremes)
    return column.raw.is_time and all(_parses(text, "%Y-%m-%d") for text in profile.examples)


def _best(columns: Iterable[Named], score: Callable[[Named], float]) -> str | None:
    scored = [(score(column), column.profile.name) for column in columns]
    scored = [(points, name) for points, name in scored if points > 0]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _is_binary(profile: ColumnProfile) -> bool:
    return profile.type == "int" and (profile.low, profile.high) == (0, 1)


def _label_score(column: Named) -> float:
    profile = column.profile
    if profile.is_list or profile.type == "string":
        return 0
    words = tuple(word for word in column.words if word not in AUXILIARY)
    if _is_binary(profile):
        if len(words) == 1 and words[0] in CLICK:
            return 5
        if any(word in CLICK for word in words):
            return 4 - 0.1 * len(words)
        return 3 if len(words) == 1 and words[0] in LABEL else 0
    is_scale = 2 < profile.distinct <= 20 and profile.high is not None and profile.high <= 10
    return 1 if is_scale and any(word in RATING for word in words) else 0


def _threshold(label: Named) -> float | None:
    if _is_binary(label.profile) or label.profile.high is None:
        return None
    # Four of five stars.
    return float(round(0.8 * label.profile.high, 1))


def _id_score(column: Named, known: tuple[str, ...]) -> float:
    profile, words = column.profile, column.words
    if profile.is_list or profile.type == "float" or profile.distinct < 2 or column.raw.is_time:
        return 0
    hits = [known.index(word) for word in words if word in known]
    if not hits:
        return 0
    # "user_id" above "user" above "page_user_id"; "user_age" is none.
    rest = [word for word in words if word not in known]
    if rest == ["id"] and words[-1] == "id":
        points = 5.0
    elif not rest:
        points = 4.0
    elif words[-1] == "id" or words[-1] in known:
        points = 3.0 - 0.1 * len(words)
    else:
        return 0
    # Two names of equal form: the more different values, the better an id.
    return points - min(hits) / 100 + min(profile.distinct, 1_000_000) / 1e9


def _time_score(column: Named) -> float:
    is_epoch = unit_of(column) is not None and column.profile.distinct > 10
    is_iso = column.raw.is_time and not column.raw.is_list and not is_day(column)
    if column.profile.is_list or not (is_epoch or is_iso):
        return 0
    named = sum(word in TIME for word in column.words)
    # Ids may be as large as epochs; only a name tells that they are none.
    return named + (2 if is_iso else 0)


def _weight_score(column: Named) -> float:
    profile = column.profile
    is_weight = not profile.is_list and profile.low is not None and profile.low >= 0
    return float(is_weight and bool(column.words[-1:]) and column.words[-1] in WEIGHT)


def _day_score(column: Named) -> float:
    return 1 + ("date" in column.words or "day" in column.words) if is_day(column) else 0


def _parses(text: str, form: str) -> bool:
    try:
        return 1990 <= datetime.datetime.strptime(text[:10], form).year < 2100
    except ValueError:
        return False
