"""What must hold between the options of a click-log spec, all mistakes found in one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from clsd_tf.features import ClickLogSpec, ColumnSpec, Role
from clsd_tf.names import name_problem, stays_below

# Options that belong to an encoding. An option given with another encoding is a mistake.
ENCODING_OPTIONS: dict[str, frozenset[str]] = {
    "vocabulary": frozenset({"min_count", "max_size", "num_oov"}),
    "hash": frozenset({"num_buckets"}),
    "identity": frozenset({"num_values"}),
    "buckets": frozenset({"boundaries", "quantiles"}),
    "numeric": frozenset({"scaling"}),
}
_ALL_ENCODING_OPTIONS = frozenset().union(*ENCODING_OPTIONS.values())
_ONE_OF: tuple[Role, ...] = ("label", "user", "item", "timestamp")
_AT_MOST_ONE: tuple[Role, ...] = ("group", "weight")
_MAX_INT = 2**63 - 1
_ENCODED_ROLES = ("feature", "user", "item", "group")


@dataclasses.dataclass(frozen=True)
class SpecProblem:
    """One mistake: where it is (`("columns", "age", "encoding")`) and what is allowed."""

    path: tuple[str, ...]
    message: str


def check_spec(spec: ClickLogSpec) -> list[SpecProblem]:
    """All mistakes that can only be seen with the columns side by side."""
    problems: list[SpecProblem] = [*_name_problems(spec)]
    for column in spec.columns:
        for option, message in _column_problems(spec, column):
            problems.append(SpecProblem(("columns", column.name, option), message))
    problems += _role_problems(spec)
    problems += _split_problems(spec)
    problems += _section_problems(spec)
    return problems


def _name_problems(spec: ClickLogSpec) -> Iterator[SpecProblem]:
    named = [(("columns", column.name), column.name) for column in spec.columns]
    named += [
        ((section, "name"), value.name)
        for section in ("history", "activity")
        if (value := getattr(spec, section)) is not None
    ]
    seen: dict[str, str] = {}
    for path, name in named:
        if (message := name_problem(name)) is not None:
            yield SpecProblem(path, message)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            message = f"Names must differ by more than case. Received also: '{other}'."
            yield SpecProblem(path, message)
    for name, table in spec.tables.items():
        message = name_problem(name)
        if message is None and name == "part-0":
            message = "The quarantine of the log has this name. Rename the side table."
        if message is not None:
            yield SpecProblem(("tables", name), message)
        if not stays_below(table.file):
            yield SpecProblem(("tables", name, "file"), _not_below(table.file))
    if not stays_below(spec.input.files):
        yield SpecProblem(("input", "files"), _not_below(spec.input.files))


def _not_below(pattern: str) -> str:
    return (
        f"Must be a path below the directory of the log. Received: {pattern!r}. Expected: neither "
        "an absolute path nor '..' in it."
    )


def _column_problems(spec: ClickLogSpec, column: ColumnSpec) -> Iterator[tuple[str, str]]:
    given = column.model_fields_set
    if column.name.startswith("_"):
        yield "name", "Names that begin with `_` are reserved. Rename it and set `source`."
    if column.table is not None and column.table not in spec.tables:
        known = ", ".join(spec.tables) or "none"
        yield "table", f"Unknown side table '{column.table}'. Declared under [tables]: {known}."

    if column.shares is not None:
        yield from _shares_problems(spec, column)
    elif column.encoding is None:
        if column.role in _ENCODED_ROLES and column.model_input:
            allowed = ", ".join(ENCODING_OPTIONS)
            yield "encoding", f"A column with role '{column.role}' needs one of: {allowed}."
    else:
        yield from _encoding_problems(column)

    for option in ("max_length", "separator", "keep"):
        if option in given and not column.is_list:
            yield option, "Lists need `max_length`, the number of elements that is kept."
    if column.is_list and column.role not in ("feature", "ignore"):
        yield "max_length", f"A column with role '{column.role}' holds one value, not a list."
    if column.is_list and column.is_numeric:
        yield "encoding", "A list needs ids: one of vocabulary, hash, identity, buckets."
    if "positive_from" in given and column.role != "label":
        yield "positive_from", "Only the label has a threshold."
    if "unit" in given and column.role != "timestamp":
        yield "unit", "Only the timestamp has a unit."
    if column.role in ("satisfaction", "label", "weight") and column.type == "string":
        yield "type", f"A column with role '{column.role}' is a number: 'int' or 'float'."
    if column.role == "timestamp" and column.type == "float":
        yield "type", "A timestamp is an 'int' epoch in `unit`, or an ISO 8601 'string'."
    yield from _default_problems(column)


def _encoding_problems(column: ColumnSpec) -> Iterator[tuple[str, str]]:
    given = column.model_fields_set
    allowed = ENCODING_OPTIONS[column.encoding]
    for option in sorted((given & _ALL_ENCODING_OPTIONS) - allowed):
        home = next(name for name, options in ENCODING_OPTIONS.items() if option in options)
        message = (
            f'`{option}` belongs to encoding = "{home}". Received: encoding = '
            f'"{column.encoding}", whose options are {_listed(allowed)}.'
        )
        yield option, message
    if column.encoding in ("buckets", "numeric") and column.type == "string":
        yield "type", f"encoding = \"{column.encoding}\" needs type 'int' or 'float'."
    if column.encoding in ("hash", "vocabulary", "identity") and column.type == "float":
        yield "type", f"encoding = \"{column.encoding}\" needs type 'int' or 'string'."
    if column.encoding == "hash" and column.num_buckets is None:
        yield "num_buckets", "A hash needs its number of buckets."
    if column.encoding == "identity":
        if column.num_values is None:
            yield "num_values", "An identity encoding needs the number of values, 0 to n - 1."
        if column.type != "int":
            yield "type", "encoding = \"identity\" needs type 'int'."
    if column.encoding == "buckets":
        yield from _bucket_problems(column.boundaries, column.quantiles)


def _bucket_problems(
    boundaries: tuple[float, ...] | None, quantiles: int | None
) -> Iterator[tuple[str, str]]:
    if (boundaries is None) == (quantiles is None):
        yield "boundaries", "Give either `boundaries` or `quantiles`, not both and not neither."
    elif boundaries is not None and not all(map(math.isfinite, boundaries)):
        yield "boundaries", f"Boundaries must be finite numbers. Received: {list(boundaries)}."
    elif boundaries is not None and (not boundaries or list(boundaries) != sorted(set(boundaries))):
        yield "boundaries", f"Boundaries must rise strictly. Received: {list(boundaries)}."


def _shares_problems(spec: ClickLogSpec, column: ColumnSpec) -> Iterator[tuple[str, str]]:
    owner = next((c for c in spec.columns if c.name == column.shares), None)
    if owner is None or owner.shares or owner.encoding in (None, "numeric"):
        message = (
            f"Must name a column with ids of its own. Received: '{column.shares}'. "
            f"Columns with ids: {_listed(_id_columns(spec))}."
        )
        yield "shares", message
        return
    if owner.type != column.type:
        yield "type", f"Must be '{owner.type}', as in column '{owner.name}' that it shares."
    if "dim" in column.model_fields_set and owner.dim != column.dim:
        yield "dim", f"Is taken from column '{owner.name}' that it shares ({owner.dim}); drop it."
    if column.encoding is not None:
        yield "encoding", f"Is taken from column '{owner.name}' that it shares; drop it."


def _default_problems(column: ColumnSpec) -> Iterator[tuple[str, str]]:
    if column.default is None:
        return
    if column.role not in _ENCODED_ROLES:
        yield "default", f"A column with role '{column.role}' is never filled in."
    kinds: dict[str, type | tuple[type, ...]] = {"string": str, "int": int, "float": (int, float)}
    if not isinstance(column.default, kinds[column.type]) or isinstance(column.default, bool):
        yield "default", f"Must be of type '{column.type}'. Received: {column.default!r}."
    elif column.type == "int" and not -_MAX_INT <= int(column.default) <= _MAX_INT:
        yield "default", f"Must be an integer of 64 bits. Received: {column.default!r}."


def _role_problems(spec: ClickLogSpec) -> Iterator[SpecProblem]:
    for role in _ONE_OF + _AT_MOST_ONE:
        names = [column.name for column in spec.with_role(role)]
        if role == "group" and spec.activity:
            names.append("[activity]")
        if len(names) > 1 and role != "label":  # the first is the click
            message = f"At most one column has role '{role}'. Received: {', '.join(names)}."
            of_activity = names[-1] == "[activity]"
            path = ("activity",) if of_activity else ("columns", names[-1], "role")
            yield SpecProblem(path, message)
        if not names and role in _ONE_OF:
            yield SpecProblem(("columns",), f"A click log needs a column with role '{role}'.")
    for column in spec.columns:
        if column.role in _ONE_OF and column.table is not None:
            message = f"The {column.role} must be a column of the log, not of a side table."
            yield SpecProblem(("columns", column.name, "table"), message)
    if not spec.model_columns:
        yield SpecProblem(("columns",), "A model needs at least one column with an encoding.")


def _split_problems(spec: ClickLogSpec) -> Iterator[SpecProblem]:
    split, given = spec.split, spec.split.model_fields_set
    days = ("train_from", "valid_from", "test_from")
    if split.by != "day":
        for option in sorted(given & {*days[1:]}):
            message = f'Belongs to by = "day". With by = "{split.by}" give fractions.'
            yield SpecProblem(("split", option), message)
        if split.valid_fraction + split.test_fraction >= 1:
            message = "`valid_fraction` + `test_fraction` must leave something to train on."
            yield SpecProblem(("split", "valid_fraction"), message)
    else:
        for option in days[1:]:
            if getattr(split, option) is None:
                message = 'by = "day" needs the first day of it, in the values of the day column.'
                yield SpecProblem(("split", option), message)
        for option in sorted(given & {"valid_fraction", "test_fraction"}):
            yield SpecProblem(("split", option), 'Belongs to by = "time" and by = "user".')
        yield from _day_problems(spec, days)
    if split.day_column is not None:
        if split.day_column not in {column.name for column in spec.columns}:
            message = (
                f"'{split.day_column}' is not declared under [columns]; role 'ignore' will do."
            )
            yield SpecProblem(("split", "day_column"), message)
        if "utc_offset" in given:
            message = "The day is taken from `day_column`; drop one of the two."
            yield SpecProblem(("split", "utc_offset"), message)


def _day_problems(spec: ClickLogSpec, days: tuple[str, ...]) -> Iterator[SpecProblem]:
    split = spec.split
    day = next((c for c in spec.columns if c.name == split.day_column), None)
    wanted = int if day is not None and day.type == "int" else str
    known = [(d, getattr(split, d)) for d in days if getattr(split, d) is not None]
    for option, value in known:
        if not isinstance(value, wanted):
            example = 20220504 if wanted is int else "'2022-05-04'"
            message = f"Must be like {example}, as the days are. Received: {value!r}."
            yield SpecProblem(("split", option), message)
            return
    values = [value for _, value in known]
    if values != sorted(set(values)):
        message = f"Must rise: train_from < valid_from < test_from. Received: {values}."
        yield SpecProblem(("split", known[-1][0]), message)


def _section_problems(spec: ClickLogSpec) -> Iterator[SpecProblem]:
    names = {column.name for column in spec.columns}
    for section in ("history", "activity"):
        value = getattr(spec, section)
        if value is not None and value.name in names:
            message = f"A column is called '{value.name}' already; choose another name."
            yield SpecProblem((section, "name"), message)
    if spec.history and spec.with_role("item") and spec.item.encoding in (None, "numeric"):
        message = f"Needs ids: give the item column '{spec.item.name}' an encoding."
        yield SpecProblem(("history",), message)
    if spec.activity:
        for option, message in _bucket_problems(spec.activity.boundaries, spec.activity.quantiles):
            yield SpecProblem(("activity", option), message)
        if spec.split.train_from is None:
            message = "Activity is counted before the training window: set `split.train_from`."
            yield SpecProblem(("activity",), message)
    position = spec.explode.position if spec.explode else None
    if position is not None and position not in names:
        message = f"'{position}' is not declared under [columns]."
        yield SpecProblem(("explode", "position"), message)
    for key, table in spec.tables.items():
        log_key = table.log_key or table.key
        on_log = {c.source_name for c in spec.columns if c.table is None}
        if log_key not in on_log:
            message = f"Key '{log_key}' is not a column of the log. Declared: {_listed(on_log)}."
            yield SpecProblem(("tables", key, "log_key"), message)


def _id_columns(spec: ClickLogSpec) -> list[str]:
    return [c.name for c in spec.columns if c.encoding not in (None, "numeric")]


def _listed(names: frozenset[str] | set[str] | list[str]) -> str:
    return ", ".join(sorted(names)) or "none"
