"""Commands of this project in pieces of shell, as documents show them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from tests.mains import MAINS


class Command(NamedTuple):
    """A documented command: where it stands, the module that it runs, and its arguments."""

    place: str
    module: str
    arguments: list[str]


_START = re.compile(
    r"(?:python3?(?:\.\d+)? -m (?P<module>(?:experiments|data_pipeline)\.[\w.]+)"
    r"|(?<![\w./-])(?P<script>clsd-[\w-]+)|(?P<run>\./run demo))(?P<rest>(?:\s.*)?)$"
)


def commands_in(text: str, place: str) -> Iterator[Command]:
    """Commands of this project in a piece of shell."""
    text = re.sub(r"\\\n\s*", " ", text)
    variables = dict(re.findall(r"\bfor (\w+) in (\S+)", text))  # a loop is tried with its first
    variables |= dict(re.findall(r"^\s*(?:export )?(\w+)=(\S+)$", text, re.MULTILINE))
    for line in text.splitlines():
        line = re.sub(r"\$\{?(\w+)\}?", lambda m: variables.get(m[1], "1"), line)
        while found := _START.search(line):
            lexer = shlex.shlex(found["rest"], posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            arguments = []
            for token in lexer:
                if set(token) <= set("|&;<>()"):
                    break
                arguments.append(token)
            module = found["module"] or MAINS.get(found["script"] or "clsd-demo")
            assert module, f"{place}: there is no command {found['script']}."
            yield Command(f"{place}: {found[0].strip()}", module, arguments)
            line = found["rest"]
