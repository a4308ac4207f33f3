"""How a column of an unknown log could be encoded: the options of a spec, and why."""

from __future__ import annotations

from data_pipeline.column_profile import ColumnProfile
from data_pipeline.log_sample import RawType
from data_pipeline.spec_roles import words_of
from data_pipeline.spec_words import KIND

Options = dict[str, str | int | float | bool]

_MANY, _LARGE = 1_000, 1_000_000
_FEW = 64
_BIG_MULTIPLE = 20  # of the average, beyond which a scale is better in logarithms


def suggest_encoding(column: ColumnProfile, raw: RawType) -> tuple[Options, str]:
    """Options beside `role` and `type`, and a sentence that gives the reason."""
    if column.is_list:
        options, reason = _ids(column)
        if raw.separator:
            options["separator"] = raw.separator
        length = min(max(column.length, 1), 50)
        return options | {"max_length": length}, f"{reason} 95 % of lists have up to {length}."
    if column.type == "string":
        return _ids(column)
    if column.type == "float":
        return _scale(column)
    if column.low >= 0 and column.high < _FEW:
        size = int(column.high) + 1
        return (
            {"encoding": "identity", "num_values": size},
            f"Small numbers; what is not 0 to {size - 1} will count as 'other'.",
        )
    if set(KIND).intersection(words_of(column.name)) or column.distinct <= _FEW:
        return _ids(column)
    # Buckets of equal size take any shape of a distribution, and outliers do no harm.
    return {"encoding": "buckets", "quantiles": 20}, "A quantity: buckets of equal size."


def suggest_id(column: ColumnProfile) -> tuple[Options, str]:
    """The same for the user's or the item's id."""
    return _ids(column, always_rare=True)


def suggest_group(column: ColumnProfile, raw: RawType) -> tuple[Options, str]:
    """The same for the column that divides users into groups."""
    if column.type == "int" and column.distinct > 10:
        return (
            {"encoding": "buckets", "quantiles": 4, "default": 0},
            "Groups of equal size, of impressions.",
        )
    return suggest_encoding(column, raw)


def _ids(column: ColumnProfile, *, always_rare: bool = False) -> tuple[Options, str]:
    distinct = column.distinct_in_log
    if distinct > _LARGE:
        buckets = 1 << (distinct - 1).bit_length()
        return (
            {"encoding": "hash", "num_buckets": buckets},
            f"About {distinct:,} values: too many for a vocabulary.",
        )
    options: Options = {"encoding": "vocabulary"}
    if always_rare or distinct > _MANY:
        return options | {"min_count": 2}, "Values that occur once share an id for unknown ones."
    return options, "Few values, each with an id."


def _scale(column: ColumnProfile) -> tuple[Options, str]:
    skewed = column.low >= 0 and column.high > _BIG_MULTIPLE * max(column.mean, 1e-9)
    if skewed:
        return (
            {"encoding": "numeric", "scaling": "log_standard"},
            "Not negative, with a long tail: scaled by its logarithm.",
        )
    return {"encoding": "numeric", "scaling": "standard"}, "A number, scaled."
