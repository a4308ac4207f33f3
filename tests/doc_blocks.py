"""Blocks of code in the documents, with the languages that they are in."""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

from tests.mains import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "BUILD.md", *sorted(DOCS.rglob("*.md"))]
_FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n?)+", re.MULTILINE)


class Block(NamedTuple):
    """A block of code: where it stands, its language ("" if it does not say), and its text."""

    place: str
    language: str
    text: str


def blocks_of(page: pathlib.Path) -> list[Block]:
    """The blocks of a page; indented ones, which name no language, are text (formulas)."""
    markdown = page.read_text(encoding="utf-8")
    place = str(page.relative_to(ROOT))
    found = [Block(place, language.strip(), text) for language, text in _FENCED.findall(markdown)]
    rest = _FENCED.sub("", markdown)
    return found + [Block(place, "text", text) for text in _INDENTED.findall(rest)]


def python_of(page: pathlib.Path) -> str:
    """The Python blocks of a page as one program, from its top to its bottom."""
    return "\n".join(block.text for block in blocks_of(page) if block.language == "python")
