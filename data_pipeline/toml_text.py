"""Pieces of a TOML file as text: a table on one line, comments that are wrapped."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

_WIDTH = 100


def inline_table(options: Mapping[str, str | int | float | bool]) -> str:
    """A TOML table on one line."""
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in options.items()) + " }"


def _value(value: str | int | float | bool) -> str:
    # JSON's strings, numbers and booleans are TOML's, but for what JSON escapes as surrogates.
    return json.dumps(value, ensure_ascii=False)


def comment(text: str) -> list[str]:
    """Lines of a comment; those after the first are indented."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    )
