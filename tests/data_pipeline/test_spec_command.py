"""`clsd-spec` as a process: no TensorFlow, mistakes in a sentence, flags in files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.data_pipeline.raw_logs import row, write_csv

# Says at the end whether the command loaded TensorFlow.
_RUN = """
import atexit, sys
from data_pipeline import spec
atexit.register(lambda: print("tensorflow" in sys.modules, file=sys.stderr))
sys.argv[0] = "clsd-spec"
spec.cli()
"""


def call(directory, *arguments: str) -> tuple[int, str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RUN, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["--help"], 0, None),
        ([], 2, "Expected: draft LOG | check SPEC [LOG]."),
        (["draft", "log.csv", "--lable=click"], 2, "Received: --lable=click. Expected: --label"),
        (["draft", "lag.csv"], 1, "No file matches 'lag.csv'."),
        (["check", "spec.toml"], 1, "There is no such spec. Received: 'spec.toml'."),
    ],
)
def test_mistakes(tmp_path, arguments, status, said):
    code, out, lines = call(tmp_path, *arguments)
    assert (code, lines[-1]) == (status, "False")
    if said is None:
        assert out.count("python -m data_pipeline.spec") == 3
    else:
        assert said in " ".join(lines)


def test_a_flagfile_and_no_tensorflow(tmp_path):
    write_csv(tmp_path / "log.csv", [row(n, click=n % 2) for n in range(60)])
    (tmp_path / "flags.txt").write_text("--name=from_file\n--output=mine.toml\n")
    code, out, lines = call(tmp_path, "draft", "log.csv", "--flagfile=flags.txt")
    assert (code, lines[-1]) == (0, "False"), lines
    assert out.splitlines()[-1] == "mine.draft.json"
    assert 'name = "from_file"' in (tmp_path / "mine.toml").read_text()
