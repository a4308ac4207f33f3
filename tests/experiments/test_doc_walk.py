"""The commands of the tutorials run one after the other, made small; and the code of the README.

One log, one data set and two runs serve all pages.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess

import pytest

from tests import mains
from tests.doc_blocks import DOCS, blocks_of, python_of
from tests.doc_commands import commands_in
from tests.test_docs import shell_lines

# Flags behind those of the page; the last ones count.
SMALL = {
    "data_pipeline.simulate": ["--rows=12000", "--users=300", "--items=100"],
    "experiments.train": [
        "--backbone=mlp",
        '--backbone_options={"units": [16]}',
        "--batch_size=256",
    ],
}


def follow(page: str, number: int = 0) -> dict[str, str]:
    """Runs a block of shell of a page in the working directory; what each command printed."""
    block = [block for block in blocks_of(DOCS / page) if block.language == "sh"][number]
    printed = {}
    for line in shell_lines(block):
        commands = list(commands_in(line, block.place))
        if not commands:
            subprocess.run(line, shell=True, check=True)
        for command in commands:
            small = SMALL.get(command.module, [])
            done = mains.run(command.module, *command.arguments, *small)
            assert done.status == 0, (command.place, done.err)
            results = pathlib.Path(done.out.strip().splitlines()[-1])
            assert results.suffix == ".json" and results.exists(), command.place
            printed[command.place] = done.out
    return printed


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> pathlib.Path:
    """The directory in which someone has followed "A log of your own"."""
    directory = tmp_path_factory.mktemp("own_log")
    with contextlib.chdir(directory):
        printed = follow("own_log.md")
    assert any("AUC" in text for text in printed.values())
    assert {"prepared", "runs", "clicks.toml"} <= {path.name for path in directory.iterdir()}
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), [("confidences.md", 0), ("serving.md", 0)])
def test_further_pages_follow(page, number, followed, monkeypatch):
    monkeypatch.chdir(followed)
    assert follow(page, number)


@pytest.mark.slow
def test_the_code_of_the_readme_runs(followed, monkeypatch):
    monkeypatch.chdir(followed)
    program = python_of(mains.ROOT / "README.md").replace('"dcn_v2"', '"mlp"')  # one is as good
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
