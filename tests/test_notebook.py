"""The notebook in `examples` runs from its top to its bottom, and is committed without outputs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.mains import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_no_output_is_committed():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.slow
def test_it_runs_and_shows_what_it_says(tmp_path):
    done = tmp_path / "done.ipynb"
    run = "from nbclient.cli import NbClientApp; NbClientApp.launch_instance()"
    finished = subprocess.run(
        [sys.executable, "-c", run, str(NOTEBOOK), f"--output={done.with_suffix('')}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    cells = json.loads(done.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    for name in ("careful", "usual", "careless"):
        assert f"{name}: noise rate" in printed
