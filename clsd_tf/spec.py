"""Reads a click-log spec from TOML and reports all its mistakes at once, each with its line."""

from __future__ import annotations

import difflib
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from clsd_tf import features
from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.spec_checks import SpecProblem, check_spec

_SECTIONS: dict[str, type[BaseModel]] = {
    "split": features.SplitSpec,
    "input": features.InputSpec,
    "history": features.HistorySpec,
    "activity": features.ActivitySpec,
    "explode": features.ExplodeSpec,
}
_HEADER = re.compile(r"^\s*\[+([^\[\]]+)\]+")
_KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=""")


class SpecError(ValueError):
    """A spec with mistakes. `problems` holds them all."""

    def __init__(self, source: str, lines: list[str], problems: list[SpecProblem]):
        self.problems = problems
        noun = "mistake" if len(problems) == 1 else "mistakes"
        super().__init__("\n  ".join([f"{source}: {len(problems)} {noun} in the spec.", *lines]))


def read_spec(path: str | pathlib.Path) -> ClickLogSpec:
    """Reads the spec in the file `path`.

    Returns:
      The spec with the columns that `prepare` derives (click history, activity group).

    Raises:
      SpecError: with every mistake, its line and column, and what is allowed.
      FileNotFoundError: there is no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no spec. Received: {path}. Expected: a TOML file that declares the log, as "
            "`clsd-spec draft` writes one, or a directory of `clsd-prepare` or `clsd-train` that "
            "holds spec.toml."
        )
    return parse_spec(read_spec_text(path), source=str(path))


def read_spec_text(path: str | pathlib.Path) -> str:
    """The text of a spec.

    Raises:
      SpecError: it is not UTF-8.
      FileNotFoundError: there is no such file.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = SpecProblem((), f"Not UTF-8: {error}. Save the file as UTF-8.")
        raise SpecError(str(path), [problem.message], [problem]) from error


def parse_spec(text: str, *, source: str = "spec") -> ClickLogSpec:
    """Reads a spec from a string; `source` names it in messages. See `read_spec`."""
    try:
        raw = tomllib.loads(text)
    # Python takes no integers of thousands of digits, and nests only so deep.
    except (ValueError, RecursionError) as error:
        problem = SpecProblem((), f"Not valid TOML: {error}.")
        raise SpecError(source, [problem.message], [problem]) from error

    problems: list[SpecProblem] = []
    known = {"name", "columns", "tables", *_SECTIONS}
    for key in sorted(raw.keys() - known):
        problems.append(SpecProblem((key,), _unknown(key, known)))

    columns = _table_of(raw.get("columns"), "columns", ColumnSpec, problems, named=True)
    tables = _table_of(raw.get("tables", {}), "tables", features.TableSpec, problems)
    sections: dict[str, Any] = {
        key: _build(model, raw[key], (key,), problems)
        for key, model in _SECTIONS.items()
        if key in raw
    }
    if not isinstance(raw.get("name"), str):
        problems.append(SpecProblem(("name",), 'Give the log a name: name = "my_log".'))

    # Checks across columns would only repeat what is already wrong inside one.
    if not problems:
        spec = ClickLogSpec(
            name=raw["name"],
            columns=tuple(columns.values()),
            tables=tables,
            **sections,
        )
        problems = check_spec(spec)
    if problems:
        where = _line_numbers(text)
        problems.sort(key=lambda problem: _line(problem.path, where) or 0)
        raise SpecError(source, [_render(problem, where) for problem in problems], problems)
    return spec.derive()


def _table_of(
    raw: object,
    key: str,
    model: type[BaseModel],
    problems: list[SpecProblem],
    *,
    named: bool = False,
) -> dict[str, Any]:
    """Builds `model` from each entry of the table `key`."""
    if not isinstance(raw, Mapping):
        problems.append(SpecProblem((key,), f"A spec needs a table [{key}]."))
        return {}
    built = {
        name: _build(model, value, (key, name), problems, {"name": name} if named else {})
        for name, value in raw.items()
    }
    return {name: value for name, value in built.items() if value is not None}


def _build(
    model: type[BaseModel],
    raw: object,
    path: tuple[str, ...],
    problems: list[SpecProblem],
    extra: Mapping[str, str] | None = None,
) -> BaseModel | None:
    options = set(model.model_fields) - {"name", "derived"} | ({"name"} - set(extra or {}))
    options &= set(model.model_fields)
    if not isinstance(raw, Mapping):
        problems.append(SpecProblem(path, f"Must be a table. Received: {raw!r}."))
        return None
    unknown = sorted(raw.keys() - options)
    problems += [SpecProblem((*path, key), _unknown(key, options)) for key in unknown]
    known = {key: value for key, value in raw.items() if key in options}
    try:
        return model(**known, **(extra or {}))
    except ValidationError as error:
        for item in error.errors():
            option = str(item["loc"][0]) if item["loc"] else ""
            received = "" if item["type"] == "missing" else f" Received: {item['input']!r}."
            problems.append(SpecProblem((*path, option), f"{item['msg']}.{received}"))
        return None


def _unknown(key: str, allowed: set[str]) -> str:
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return f"Unknown option `{key}`.{hint} Allowed: {', '.join(sorted(allowed))}."


def _line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Line of each table header and key. TOML parsers of the standard library keep none."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split_key(header.group(1))
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _split_key(key.group(1)), number)
    return lines


def _split_key(key: str) -> tuple[str, ...]:
    parts = re.findall(r""""[^"]*"|'[^']*'|[^.\s]+""", key.strip())
    return tuple(part.strip("\"'") for part in parts)


def _line(path: tuple[str, ...], where: Mapping[tuple[str, ...], int]) -> int | None:
    """Line of `path`, or of the nearest table around it."""
    for end in range(len(path), 0, -1):
        if path[:end] in where:
            return where[path[:end]]
    return None


def _render(problem: SpecProblem, where: Mapping[tuple[str, ...], int]) -> str:
    line = _line(problem.path, where)
    parts = [f"line {line}"] if line else []
    if problem.path[:1] == ("columns",) and len(problem.path) > 1:
        parts.append(f"column '{problem.path[1]}'")
        parts += [f"`{name}`" for name in problem.path[2:] if name]
    elif problem.path:
        parts.append(f"[{'.'.join(name for name in problem.path if name)}]")
    return f"{', '.join(parts)}: {problem.message}"
