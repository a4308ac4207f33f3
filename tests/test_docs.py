"""No block of code in the documents escapes: each is run, or read and compared with what there is.

Shell: every line is a command of this project, whose flags are parsed here, or stands in `OTHERS`.
Python: every page runs in `tests/test_doc_pages.py`. TOML: every spec is parsed in
`tests/data_pipeline/test_specs_in_docs.py`. What is neither shell, Python nor TOML is text.
"""

from __future__ import annotations

import ast
import re

import pytest
from absl import flags

from tests import mains
from tests.doc_blocks import DOCS, PAGES, Block, blocks_of
from tests.doc_commands import Command, commands_in

# Beginnings of lines of shell that run nothing of this project, and why they are not run here.
OTHERS = {
    "CLSD_FUZZ=": "the tests themselves, with more draws",
    "gunzip -c": "unpacks a file; run in tests/experiments/test_doc_walk.py",
    "./run test": "the tests themselves",
    "./run demo": "a command of this project by another name; parsed as clsd-demo",
    "python3.11 -m venv": "makes an environment, as `run` does",
    ".venv/bin/python -m pip": "needs a package index",
    ".venv/bin/python -m pytest": "the tests themselves",
    "python examples/serving_client.py": "needs a server; run in tests/serving/test_client.py",
    "for seed in": "a loop, whose commands are parsed",
    "done": "the end of a loop",
}
LANGUAGES = {"sh", "python", "toml", "json", "text", "console"}


def documented_commands() -> list[Command]:
    """Commands in code blocks of the documents, and in the docstrings of modules."""
    found = []
    for page in PAGES:
        for block in blocks_of(page):
            if block.language in ("sh", "console"):
                found += commands_in(block.text, block.place)
    for package in ("data_pipeline", "experiments"):
        for path in sorted((mains.ROOT / package).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            # In prose a command may stand with dots for its flags; on a line of its own it is one.
            lines = re.findall(
                r"^[ \t$]*((?:\S*/)?(?:python|clsd-)(?:[^\n\\]|\\\n)*)", docstring, re.MULTILINE
            )
            for line in lines:
                found += commands_in(line, str(path.relative_to(mains.ROOT)))
    return found


COMMANDS = documented_commands()


def wrong(name: str, arguments: list[str]) -> str | None:
    """What is wrong with a command line of the module `name`; None if it parses."""
    with mains.imported(name) as module:
        flags.FLAGS.unparse_flags()
        try:
            left = flags.FLAGS([name, *arguments])[1:]
        except (flags.Error, ValueError) as error:
            return str(error)
        if left and not hasattr(module, "ARGUMENTS"):
            return f"arguments that are no flags: {left}"
    return None


@pytest.mark.parametrize("name", mains.MODULES)
def test_documented_commands_parse(name):
    own = [command for command in COMMANDS if command.module == name]
    assert own, f"No documented command runs {name}; its docstring should show one."
    assert {c.place: told for c in own if (told := wrong(name, c.arguments))} == {}


def test_all_documented_commands_are_of_this_project():
    assert {command.module for command in COMMANDS} == set(mains.MODULES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_shell_escapes(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.place}: say what it is, one of {LANGUAGES}"
        if block.language not in ("sh", "console"):
            assert not list(commands_in(block.text, block.place)), f"{block.place} is shell"
            continue
        for line in shell_lines(block):
            known = any(line.startswith(other) for other in OTHERS)
            assert known or list(commands_in(line, block.place)), f"{block.place}: {line}"


def shell_lines(block: Block) -> list[str]:
    """Lines of shell without comments, continued ones as one; of a transcript those after `$`."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    lines = [line.strip() for line in text.splitlines()]
    if block.language == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


def test_nothing_is_listed_in_vain():
    lines = [
        line
        for page in PAGES
        for block in blocks_of(page)
        if block.language in ("sh", "console")
        for line in shell_lines(block)
    ]
    used = {other for other in OTHERS if any(line.startswith(other) for line in lines)}
    assert set(OTHERS) - used == set()


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?://|#", target):
                assert (page.parent / target.partition("#")[0]).exists(), (page.name, target)


def test_every_page_is_in_the_navigation_once():
    listed = re.findall(r": ([\w/]+\.md)$", (mains.ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    pages = [str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)]
    assert sorted(listed) == sorted(pages)


class TestCollection:
    def test_continuations_pipes_and_loops(self):
        text = (
            "for seed in 3 4; do\n"
            "  .venv/bin/python -m experiments.train --seed $seed \\\n"
            "      --data_dir 'a b' --x=${UNSET} | tee log; done\n"
            "X=1 clsd-export --model_dir m && clsd-demo > out\n"
            "./run demo --rows 5\n"
            "clsd-table-storage --model_dir=m\n"
            "pip install clsd_tf\n"
        )
        received = [(c.module, c.arguments) for c in commands_in(text, "here")]
        assert received == [
            ("experiments.train", ["--seed", "3", "--data_dir", "a b", "--x=1"]),
            ("experiments.export", ["--model_dir", "m"]),
            ("experiments.demo", []),
            ("experiments.demo", ["--rows", "5"]),
            ("experiments.table_storage", ["--model_dir=m"]),
        ]

    def test_unknown_scripts_fail(self):
        with pytest.raises(AssertionError, match="there is no command clsd-trian"):
            list(commands_in("clsd-trian --seed 1", "here"))

    def test_drifted_commands_are_found(self):
        train = "experiments.train"
        good = ["--data_dir=d", "--model_dir=m", "--method", "plain", "--seed=3"]
        assert wrong(train, good) is None
        assert "sed" in wrong(train, [*good, "--sed=3"])
        assert "<plain|" in wrong(train, [*good, "--method=plian"])
        assert "x" in wrong(train, [*good, "--seed=x"])
        assert "model_dir" in wrong(train, ["--data_dir=d"])
        assert "stray" in wrong(train, [*good, "stray"])
