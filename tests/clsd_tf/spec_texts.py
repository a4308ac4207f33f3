"""Specs with mistakes, and what is said about them."""

from __future__ import annotations

import pytest

from clsd_tf.spec import SpecError, parse_spec

BASE = {
    "name": '"shop"',
    "split": {"valid_from": '"2024-01-09"', "test_from": '"2024-01-10"'},
    "columns": {
        "user_id": '{ role = "user", type = "int", encoding = "vocabulary" }',
        "item_id": '{ role = "item", type = "int", encoding = "vocabulary" }',
        "click": '{ role = "label", type = "int" }',
        "time_ms": '{ role = "timestamp", type = "int" }',
    },
}


def spec_text(**changes: object) -> str:
    """BASE with sections replaced; columns are added, replaced, or removed with None."""
    columns = {**BASE["columns"], **changes.pop("columns", {})}
    sections = {**BASE, **changes, "columns": {k: v for k, v in columns.items() if v is not None}}
    lines = []
    for key, value in sorted(sections.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {body}" for name, body in value.items())]
        elif value is not None:
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def messages(text: str) -> list[str]:
    """The mistakes of a spec, as shown, without the headline."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, source="shop.toml")
    headline, *lines = str(caught.value).split("\n  ")
    count = len(caught.value.problems)
    noun = "mistake" if count == 1 else "mistakes"
    assert headline == f"shop.toml: {count} {noun} in the spec."
    assert len(lines) == count
    return lines


def feature(body: str) -> dict[str, object]:
    """A change that adds a column `x`."""
    return {"columns": {"x": f"{{ {body} }}"}}
