"""What is odd about a column of a log: each oddity is a function under `@register_finding`.

A finding says what was seen, why it matters, and what to do. `clsd-spec draft` writes findings as
comments, `clsd-spec check` prints those that the column's role has not answered yet.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from data_pipeline.column_profile import ColumnProfile
from data_pipeline.log_sample import RawType
from data_pipeline.spec_words import AFTER_CLICK, AMBIGUOUS

Level = Literal["error", "warning", "note"]
# Click models of rich features reach AUCs of .7 to .85; one column that does more knows the answer.
LEAK_AUC = 0.9
_AFTER_CLICK = 0.02  # share among non-clicks, relative to that among clicks
_LIKELY_AFTER_CLICK = 0.2


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about a column, or about the log.

    Attributes:
      level: "error": `clsd-prepare` would fail, or the model would be wrong; "warning": probably
        not what is wanted; "note": good to know.
      column: its name; None: the whole log.
      code: kind of finding, such as "post_click".
      what: was seen.
      why: it matters.
      mend: what to do.
    """

    level: Level
    column: str | None
    code: str
    what: str
    why: str
    mend: str

    def __str__(self) -> str:
        place = f"column '{self.column}'" if self.column else "log"
        return f"{self.level}: {place}: {self.what} {self.why} {self.mend}".rstrip()


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A column with what its values say beside the clicks, users and items.

    Attributes:
      column: its profile.
      raw: its type in the files.
      words: of its name, lower case.
      auc: of the column alone against clicks; nan where it is not known.
      after_click: share of clicks, and of non-clicks, with a value that is not zero; nans where
        they are not known.
      of_user: whether the value is a property of the user.
      of_item: whether it is one of the item.
    """

    column: ColumnProfile
    raw: RawType
    words: tuple[str, ...]
    auc: float = math.nan
    after_click: tuple[float, float] = (math.nan, math.nan)
    of_user: bool = False
    of_item: bool = False

    @property
    def only_after_click(self) -> bool:
        """Whether there is hardly ever a value without a click."""
        clicks, others = self.after_click
        return clicks > 0.001 and others <= _AFTER_CLICK * clicks

    @property
    def is_post_click(self) -> bool:
        """Whether it looks like something that is known after a click only."""
        clicks, others = self.after_click
        if self.only_after_click:
            return True
        named = set(AFTER_CLICK).intersection(self.words)
        if self.of_user or self.of_item or self.column.is_list or not named:
            return False
        # A word of two meanings convicts no column that is as common without clicks.
        as_common = others > _LIKELY_AFTER_CLICK * clicks and self.auc <= LEAK_AUC
        return not (as_common and named <= set(AMBIGUOUS))

    @property
    def is_leak(self) -> bool:
        """Whether the column alone tells clicks too well."""
        return self.auc > LEAK_AUC


_Check = Callable[[Evidence], Finding | None]
FINDINGS: dict[str, _Check] = {}


def register_finding(check: _Check) -> _Check:
    """Adds a check of columns."""
    FINDINGS[check.__name__] = check
    return check


def findings_of(evidence: Evidence) -> list[Finding]:
    """All findings on a column."""
    found = (check(evidence) for check in FINDINGS.values())
    return [finding for finding in found if finding is not None]


@register_finding
def post_click(evidence: Evidence) -> Finding | None:
    """Known only after the click."""
    if not evidence.is_post_click:
        return None
    clicks, others = evidence.after_click
    seen = f"It has a value in {clicks:.1%} of clicks and {others:.1%} of other impressions"
    if evidence.only_after_click:
        what = f"It looks post-click. {seen}."
    else:
        what = f"It looks post-click by its name. {seen}."
    return Finding(
        "error",
        evidence.column.name,
        "post_click",
        what,
        "At serving time nobody knows it yet; a model that is given it learns nothing else.",
        'Give it role = "satisfaction" if it is a number that says how good a click was, role = '
        '"ignore" if not, and an encoding only if it is known before the click.',
    )


@register_finding
def leak(evidence: Evidence) -> Finding | None:
    """Tells clicks too well."""
    if not evidence.is_leak or evidence.is_post_click:
        return None
    return Finding(
        "error",
        evidence.column.name,
        "leak",
        f"It looks like a leak. By itself it tells clicks from other impressions with an AUC of "
        f"{evidence.auc:.3f}; more than {LEAK_AUC} is hardly ever had by what is known before.",
        "It was probably written, or updated, after the click.",
        'Give it role = "ignore", unless you know that it was there when the item was shown.',
    )


@register_finding
def constant(evidence: Evidence) -> Finding | None:
    """The same in all rows."""
    column = evidence.column
    if not column.is_constant:
        return None
    what = f"All rows have the value {column.examples[0]!r}." if column.examples else "It is empty."
    return Finding(
        "warning",
        column.name,
        "constant",
        what,
        "A model cannot learn from it.",
        'Give it role = "ignore".',
    )


@register_finding
def nearly_unique(evidence: Evidence) -> Finding | None:
    """A value for each row."""
    column = evidence.column
    if not column.is_nearly_unique or column.type == "float" or evidence.raw.is_time:
        return None
    return Finding(
        "warning",
        column.name,
        "nearly_unique",
        f"It is nearly unique: {column.distinct:,} different values in {column.present:,} rows.",
        "It names the row; nothing that is learned of one value helps with another.",
        'Give it role = "ignore".',
    )


@register_finding
def mostly_missing(evidence: Evidence) -> Finding | None:
    """Hardly ever there."""
    column = evidence.column
    if column.is_constant or column.missing < 0.95 or evidence.is_post_click:
        return None
    return Finding(
        "note",
        column.name,
        "mostly_missing",
        f"It is missing in {column.missing:.1%} of rows.",
        "A missing value has an id of its own, so that this is no mistake.",
        "",
    )


@register_finding
def almost_a_number(evidence: Evidence) -> Finding | None:
    """Numbers, but for a few values."""
    raw = evidence.raw
    if raw.almost is None:
        return None
    return Finding(
        "warning",
        evidence.column.name,
        "almost_a_number",
        f"Nearly all values are numbers ({raw.almost}); others are "
        f"{', '.join(map(repr, raw.strays))}.",
        f'With type = "{raw.almost}" rows with such values are bad rows and go to the quarantine.',
        f'Write missing values as nothing at all, and set type = "{raw.almost}".',
    )


@register_finding
def leading_zeros(evidence: Evidence) -> Finding | None:
    """Codes that look like numbers."""
    if not evidence.raw.leading_zeros:
        return None
    return Finding(
        "note",
        evidence.column.name,
        "leading_zeros",
        "Some values begin with zeros, as codes do.",
        'With type = "int" 007 and 7 would be the same.',
        'Keep type = "string".',
    )


@register_finding
def free_text(evidence: Evidence) -> Finding | None:
    """Sentences."""
    column = evidence.column
    if column.type != "string" or column.is_list or column.length <= 60 or column.distinct < 100:
        return None
    return Finding(
        "warning",
        column.name,
        "free_text",
        f"It looks like free text, up to {column.length} characters.",
        "Whole texts hardly ever occur twice; there is no encoding for words.",
        'Give it role = "ignore", or turn it into categories before.',
    )
