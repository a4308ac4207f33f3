"""Rows of a log as files may spell them, good and bad, and in plain Python what each means."""

from __future__ import annotations

import collections
import dataclasses
import enum
import random

from hypothesis import strategies as st

from tests.data_pipeline.raw_logs import START, make_spec

# No texts, which a row might hold.
_Meaning = enum.Enum("_Meaning", ["MISSING", "BAD"])
MISSING, BAD = _Meaning

# Spelling -> value, MISSING or BAD.
INTS = {
    **{text: int(text) for text in ("0", "1", "29", "-3", "9007199254740993", "00012", "+5")},
    **{"29.0": 29, " 7 ": 7, "1e3": 1000, "-0": 0, "9223372036854775807": 2**63 - 1},
    **{"true": 1, "False": 0, "": MISSING, "  ": MISSING, "nan": MISSING, " NaN": MISSING},
    **dict.fromkeys(("-9223372036854775808", "9223372036854775808", "1e19", "inf"), BAD),
    **dict.fromkeys(
        ("29.5", "0x1F", "1_000", "\uff11\uff12", "12abc", "--5", "7\0", "-Infinity", "½"), BAD
    ),
}
FLOATS = {
    **{text: float(text) for text in ("0", "-1.5", "1e308", "5.", ".5", "1e-400", " 2 ")},
    **{"true": 1.0, "": MISSING, "NaN": MISSING, "\t": MISSING},
    **dict.fromkeys(("1e309", "-1e309", "inf", "-inf", "abc", "1_0.5", "1,5", "5%", "1e"), BAD),
}
CLICKS = {"0": 0, "1": 1, "1.0": 1, "true": 1, "": MISSING, "2": BAD, "-1": BAD, "?": BAD}
TIMES = {
    **{str(START + n): START + n for n in (0, 0, 1, 7, 86_400)},
    **{"": MISSING, "-5": BAD, "0": BAD, "1e30": BAD, "9223372036854775807": BAD, "soon": BAD},
}
# Commas, quotes, line breaks, other alphabets, bytes that programs trip over.
TEXTS = [
    *("i1", "i2", "NULL", "nan", "a,b", 'say "x"', "'", "two\nlines", "\\N", "Köln", "日本", "🙂"),
    *("a\0b", "a\u2028b", "\ufeffx", "x" * 5_000, "__missing__", " padded ", "#no", "=1+1"),
    *("", "   "),
]
TAGS = {
    **{"": [], "4 5": [4, 5], "6": [6], "1 2 3 4": [1, 2, 3, 4], "7  8": [7, 8]},
    **{"x": BAD, "1 x": BAD, "1,2": BAD, "1.5 2": BAD, "nan 3": [3]},
}
SPEC = make_spec(
    """
age = { type = "float", encoding = "buckets", quantiles = 4 }
tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 3 }
"""
)
_COLUMNS = ("user_id", "item_id", "click", "time", "age", "tags")

texts = st.one_of(
    st.sampled_from(TEXTS),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=6),
)
rows = st.fixed_dictionaries(
    {
        "user_id": st.one_of(st.sampled_from([*INTS]), st.sampled_from(["1", "29"])),
        "item_id": texts,
        "click": st.one_of(st.sampled_from([*CLICKS]), st.sampled_from(["0", "1"])),
        "time": st.one_of(st.sampled_from([*TIMES]), st.just(str(START))),
        "age": st.sampled_from([*FLOATS]),
        "tags": st.sampled_from([*TAGS]),
    }
)

_POOLS = {
    "user_id": [*INTS, *["1", "29"] * 15],
    "item_id": [*TEXTS, *(f"i{i}" for i in range(30))],
    "click": [*CLICKS, *"01" * 8],
    "time": [*TIMES, *[text for text, time in TIMES.items() if isinstance(time, int)] * 4],
    "age": [*FLOATS],
    "tags": [*TAGS],
}


def random_log(seed: int, count: int) -> list[dict[str, str]]:
    """More rows than Hypothesis would draw."""
    rng = random.Random(seed)
    return [{name: rng.choice(pool) for name, pool in _POOLS.items()} for _ in range(count)]


@dataclasses.dataclass
class Expected:
    """What loading must make of rows, the impressions in order of time and place."""

    impressions: list[tuple] = dataclasses.field(default_factory=list)
    quarantined: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    duplicates: int = 0


def expected_of(log: list[dict[str, str]]) -> Expected:
    """The reference: row by row, without an engine."""
    expected, seen = Expected(), set()
    for row in log:
        values, reasons = _meaning(row)
        if reasons:
            expected.quarantined["; ".join(reasons)] += 1
        elif values in seen:
            expected.duplicates += 1
        else:
            seen.add(values)
            expected.impressions.append(values)
    expected.impressions.sort(key=lambda values: values[3])  # stable
    return expected


def typed(row: dict[str, object]) -> tuple:
    """A loaded impression in the form of the reference."""
    values = {name: row[name] for name in _COLUMNS}
    return tuple((tuple(v or ()) if n == "tags" else v) for n, v in values.items())


def _meaning(row: dict[str, str]) -> tuple[tuple, list[str]]:
    values: dict[str, object] = {
        "user_id": INTS[row["user_id"]],
        # The engine trims blanks alone, as SQL does.
        "item_id": row["item_id"] if row["item_id"].strip(" \t\n\v\f\r") else MISSING,
        "click": CLICKS[row["click"]],
        "time": TIMES[row["time"]],
        "age": FLOATS[row["age"]],
        "tags": TAGS[row["tags"]],
    }
    wrong = {
        "user_id": "not an integer",
        "click": "not 0 or 1" if row["click"] != "?" else "not an integer",
        "time": "not an integer"
        if row["time"] in ("1e30", "soon")
        else "before 1990 or after 2099",
        "age": "not a finite number",
        "tags": "not an integer",
    }
    reasons = []
    for name, value in values.items():
        if value is BAD:
            reasons.append(f"{name}: {wrong[name]}")
        elif value is MISSING and name in ("user_id", "item_id", "click", "time"):
            reasons.append(f"{name}: missing")
    plain = {n: None if v is MISSING else v for n, v in values.items()}
    plain["tags"] = tuple(plain["tags"]) if plain["tags"] is not BAD else ()
    return tuple(plain.values()), reasons
