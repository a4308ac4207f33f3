"""What `import clsd_tf` does and offers, and that the files about the package agree."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import tomllib

import clsd_tf

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter at the root of the repository."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_runs(code: str) -> None:
    received = run_python(code)
    assert received.returncode == 0, received.stderr


def setup_arguments() -> dict[str, object]:
    """The literal arguments of `setup(...)` in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    literals = {}
    for keyword in call.keywords:
        try:
            literals[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:  # computed: not compared here
            continue
    return literals


def canonical(requirement: str) -> str:
    """tf_keras>=2.21 -> tf-keras."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].replace("_", "-").lower()


def test_import_alone_loads_no_tensorflow():
    code = (
        "import sys, os, clsd_tf, clsd_tf.spec, clsd_tf.metrics\n"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'pyarrow', 'ibis'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert os.environ['TF_USE_LEGACY_KERAS'] == '1'\n"
    )
    assert_runs(code)


def test_tf_keras_is_keras_2_after_the_import():
    code = (
        "import tensorflow as tf, clsd_tf, tf_keras\n"
        "clsd_tf.default_optimizer\n"
        "assert tf.keras.Model is tf_keras.Model\n"
    )
    assert_runs(code)


def test_commands_load_no_keras_3():
    code = (
        "import sys\n"
        "from data_pipeline.cli import load_tensorflow\n"
        "load_tensorflow()\n"
        "from clsd_tf import ClickConfidenceModel, Encoder, get_backbone\n"
        "from data_pipeline.reader import make_dataset\n"
        "heavy = {'keras', 'matplotlib', 'scipy.stats'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert_runs(code)


def test_keras_3_is_refused_in_one_sentence():
    received = run_python("import clsd_tf; clsd_tf.default_optimizer", TF_USE_LEGACY_KERAS="0")
    assert received.returncode != 0
    last = received.stderr.strip().splitlines()[-1]
    assert "ImportError: `tf.keras` is Keras 3" in last
    assert "Received: TF_USE_LEGACY_KERAS='0'. Set TF_USE_LEGACY_KERAS=1" in last


def test_public_names_exist_and_are_listed():
    for name in clsd_tf.__all__:
        assert getattr(clsd_tf, name) is not None
    assert len(set(clsd_tf.__all__)) == len(clsd_tf.__all__)
    assert set(clsd_tf.__all__) <= set(dir(clsd_tf))


def test_who_reads_types_finds_what_is_there():
    source = pathlib.Path(clsd_tf.__file__).read_text(encoding="utf-8")
    (typed,) = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for imported in typed.body:
        (name,) = imported.names
        value = getattr(importlib.import_module(imported.module), name.name)
        assert getattr(clsd_tf, name.asname) is value
    assert {i.names[0].asname for i in typed.body} == set(clsd_tf.__all__)


def test_what_is_public_is_documented_and_little():
    page = (ROOT / "docs" / "api" / "public.md").read_text(encoding="utf-8")
    table = page[page.index("|---|") : page.index("What stands in submodules")]
    assert set(re.findall(r"`(\w+)`", table)) - {"tf_keras"} == set(clsd_tf.__all__)
    assert len(clsd_tf.__all__) <= 40


def test_a_public_name_is_the_one_of_its_module():
    for name in clsd_tf.__all__:
        value = getattr(clsd_tf, name)
        module = getattr(value, "__module__", "")
        if module.startswith("clsd_tf"):
            assert getattr(importlib.import_module(module), name) is value


def test_unknown_names_are_attribute_errors():
    assert not hasattr(clsd_tf, "ClickConfidenceModle")


def test_constraints_pin_every_dependency_and_nothing_else():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+]*", line) for line in lines)
    pinned = {canonical(line) for line in lines}
    arguments = setup_arguments()
    required = [*arguments["install_requires"], *arguments["extras_require"]["dev"]]
    assert {canonical(requirement) for requirement in required} <= pinned


def test_dependencies_have_both_bounds_and_a_reason():
    arguments = setup_arguments()
    reasons = (ROOT / "BUILD.md").read_text(encoding="utf-8")
    extras = [r for extra in arguments["extras_require"].values() for r in extra]
    for requirement in [*arguments["install_requires"], *extras]:
        assert re.search(r">=[\d.]+,<[\d.]+$", requirement), requirement
        assert f"| {canonical(requirement)} |" in reasons, requirement


def test_the_version_has_an_entry_in_the_changelog():
    version = setup_arguments()["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(version)}\]", changelog, re.MULTILINE)


def test_the_two_python_ranges_agree():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    least = setup_arguments()["python_requires"].split(",")[0]
    assert config["tool"]["ruff"]["target-version"] == least.replace(">=3.", "py3")
