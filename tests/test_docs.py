"""Commands in the documentation parse: each flag exists, each value is one that the flag takes."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Reads {place: argv}, prints {place: what is wrong}. In a process of its own, because the flags of
# all commands live in one namespace.
CHECK = """
import copy, importlib, json, sys
from absl import flags
module = importlib.import_module(sys.argv[1])
wrong = {}
for place, argv in json.load(sys.stdin).items():
    try:
        left = copy.deepcopy(flags.FLAGS)(argv)[1:]
    except flags.Error as error:
        wrong[place] = str(error)
    else:
        if left and not hasattr(module, "ARGUMENTS"):
            wrong[place] = f"arguments that are no flags: {left}"
print(json.dumps(wrong))
"""


class Command(NamedTuple):
    """A documented command: where it stands, the module that it runs, and its arguments."""

    place: str
    module: str
    arguments: list[str]


def console_scripts() -> dict[str, str]:
    """Command -> module, from the literal in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (mains,) = (n.value for n in tree.body if isinstance(n, ast.Assign))
    return ast.literal_eval(mains)


MAINS = console_scripts()
_START = re.compile(
    r"(?:python3?(?:\.\d+)? -m (?P<module>(?:experiments|data_pipeline)\.\w+)"
    r"|(?<![\w./-])(?P<script>clsd-\w+)|(?P<run>\./run demo))(?P<rest>(?:\s.*)?)$"
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


def code_blocks(markdown: str) -> Iterator[str]:
    """Fenced and indented blocks."""
    yield from re.findall(r"^```[^\n]*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    unfenced = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"(?:^(?: {4}|\t).*\n?)+", unfenced, re.MULTILINE)


def documented_commands() -> Iterator[Command]:
    """Commands in code blocks of the documents, and in the docstrings of modules."""
    for path in [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if path.exists():
            for block in code_blocks(path.read_text(encoding="utf-8")):
                yield from commands_in(block, str(path.relative_to(ROOT)))
    for package in ("data_pipeline", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            # In prose a command may stand with dots for its flags; on a line of its own it is one.
            lines = re.findall(
                r"^[ \t$]*((?:\S*/)?(?:python|clsd-)(?:[^\n\\]|\\\n)*)", docstring, re.MULTILINE
            )
            for line in lines:
                yield from commands_in(line, str(path.relative_to(ROOT)))


COMMANDS = list(documented_commands())


def check(module: str, argvs: dict[str, list[str]], directory: pathlib.Path) -> dict[str, str]:
    """What is wrong with commands of a module that is importable from `directory`, by place."""
    checked = subprocess.run(
        [sys.executable, "-c", CHECK, module],
        cwd=directory,
        input=json.dumps(argvs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    return json.loads(checked.stdout)


@pytest.mark.parametrize("module", sorted({c.module for c in COMMANDS} | set(MAINS.values())))
def test_documented_commands_parse(module):
    argvs = {c.place: [c.module, *c.arguments] for c in COMMANDS if c.module == module}
    assert argvs, f"No documented command runs {module}; its docstring should show one."
    assert check(module, argvs, ROOT) == {}


@pytest.mark.parametrize("module", sorted(MAINS.values()))
def test_the_docstring_of_a_command_shows_the_command(module):
    path = module.replace(".", "/") + ".py"
    assert any(c.module == module and c.place.startswith(path) for c in COMMANDS)


def test_the_readme_shows_both_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(code_blocks(readme))
    assert "./run demo" in blocks
    assert "./run test" in blocks


class TestCollection:
    def test_continuations_pipes_and_loops(self):
        text = (
            "for seed in 3 4; do\n"
            "  .venv/bin/python -m experiments.train --seed $seed \\\n"
            "      --data_dir 'a b' --x=${UNSET} | tee log; done\n"
            "X=1 clsd-export --model_dir m && clsd-demo > out\n"
            "./run demo --rows 5\n"
            "pip install clsd_tf\n"
        )
        received = [(c.module, c.arguments) for c in commands_in(text, "here")]
        assert received == [
            ("experiments.train", ["--seed", "3", "--data_dir", "a b", "--x=1"]),
            ("experiments.export", ["--model_dir", "m"]),
            ("experiments.demo", []),
            ("experiments.demo", ["--rows", "5"]),
        ]

    def test_unknown_scripts_fail(self):
        with pytest.raises(AssertionError, match="there is no command clsd-trian"):
            list(commands_in("clsd-trian --seed 1", "here"))

    def test_blocks(self):
        markdown = "Text `clsd-x`.\n\n```sh\na\n```\n\n    b\n    c\n\nEnd\n"
        assert [block.strip() for block in code_blocks(markdown)] == ["a", "b\n    c"]


def test_drifted_commands_are_found(tmp_path):
    (tmp_path / "drifting.py").write_text(
        "from absl import flags\n"
        "flags.DEFINE_enum('backbone', 'mlp', ['mlp', 'din'], '')\n"
        "flags.DEFINE_integer('seed', 0, '')\n"
        "flags.DEFINE_string('data_dir', None, '', required=True)\n"
    )
    argvs = {
        "good": ["drifting", "--data_dir=d", "--backbone", "din", "--seed=3"],
        "unknown": ["drifting", "--data_dir=d", "--sed=3"],
        "choice": ["drifting", "--data_dir=d", "--backbone=dcn"],
        "number": ["drifting", "--data_dir=d", "--seed=x"],
        "required": ["drifting"],
        "stray": ["drifting", "--data_dir=d", "e"],
    }
    wrong = check("drifting", argvs, tmp_path)
    assert set(wrong) == set(argvs) - {"good"}
    assert "sed" in wrong["unknown"]
    assert "<mlp|din>" in wrong["choice"]
