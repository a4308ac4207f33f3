"""Nothing that comes from elsewhere is executed, and no path leaves its place."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import pathlib
import re
import types

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clsd_tf.names import is_file_name, stays_below
from data_pipeline.manifest import Manifest, ShardError, ShardInfo
from data_pipeline.scores import ScoreError, ScoreFile, ScoreManifest
from experiments.runs import Run, TrainConfig

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for package in ("clsd_tf", "data_pipeline", "experiments", "examples")
    for path in (ROOT / package).rglob("*.py")
)
# Modules that execute what they load, unpack archives, or fetch files.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code"}
MODULES |= {"tarfile", "zipfile", "requests", "wget", "ftplib"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
METHODS |= {"shutil.unpack_archive", "keras.utils.get_file", "tf.py_function"}
METHODS |= {"urllib.request.urlretrieve", "keras.config.enable_unsafe_deserialization"}
ARGUMENTS = {"shell": True, "allow_pickle": True, "safe_mode": False}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or name in METHODS:
                found.append(name)
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in ARGUMENTS and value is ARGUMENTS[keyword.arg]:
                    found.append(f"{name}({keyword.arg}={value})")
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "keras.models.load_model(path, safe_mode=False)",
    ],
)
def test_the_scan_sees_what_is_dangerous(code):
    assert dangers(ast.parse(code))


def test_sources_execute_nothing_that_they_read():
    found = {str(path.relative_to(ROOT)): dangers(ast.parse(path.read_text())) for path in SOURCES}
    assert len(found) > 150
    assert {path: names for path, names in found.items() if names} == {}


def test_no_result_depends_on_the_clock():
    """A clock that goes backwards changes nothing: versions count, locks belong to processes."""
    asked = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"time\.time|(datetime\.)+(now|utcnow|today)|date\.today", dotted(node.func)
            ):
                asked.add(str(path.relative_to(ROOT)))
    # Both tell when they were run.
    assert asked == {"experiments/compare.py", "experiments/report.py"}


@pytest.mark.parametrize(
    "name", ["", " ", "..", ".", "a/b", "../x", "a\\b", "/etc/passwd", "a\0", "a\nb", "x" * 300, 7]
)
def test_names_that_are_no_file_names(name):
    assert not is_file_name(name)
    with pytest.raises(ValueError, match="A shard is a file beside its manifest"):
        ShardInfo(name, "train", 1, 1, "")
    with pytest.raises(ValueError, match="lies beside scores.json"):
        ScoreFile(name, "shard", "", 1, "")


def test_patterns_below_a_directory():
    assert all(map(stays_below, ("users.csv", "day=*/*.csv", "**/x.csv", "..x", "a..b")))
    assert not any(map(stays_below, ("", "..", "../x", "a/../../x", "/x", "a\0")))


def test_manifests_that_point_elsewhere_are_refused(tmp_path):
    shard = {"file": "../../etc/passwd", "split": "train", "rows": 1, "bytes": 1, "sha256": ""}
    manifest = {"name": "x", "layout": "row", "block_rows": 1, "rows": {"train": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"shards": [shard]}))
    with pytest.raises(ShardError, match="is damaged.*A shard is a file beside its manifest"):
        Manifest.load(tmp_path)
    file = {"file": "../x", "shard": "s", "shard_sha256": "", "rows": 1, "sha256": ""}
    (tmp_path / "scores.json").write_text(json.dumps({"model": "m", "files": [file]}))
    with pytest.raises(ScoreError, match="lies beside scores.json"):
        ScoreManifest.load(tmp_path)


class TestForeignRuns:
    def run_of(self, directory: pathlib.Path, backbone: str, **options: object) -> Run:
        config = {"data_dir": "d", "data": "", "backbone": backbone, "backbone_options": options}
        (directory / "config.json").write_text(json.dumps(config))
        return Run(directory)

    def test_a_run_from_elsewhere_imports_nothing(self, tmp_path, monkeypatch):
        run = self.run_of(tmp_path, "evil_module:Backbone")
        with pytest.raises(ValueError, match="CLSD_TRUSTED_MODULES=evil_module"):
            run.config()
        monkeypatch.setenv("CLSD_TRUSTED_MODULES", "other,evil_module")
        assert run.config().backbone == "evil_module:Backbone"

    def test_who_names_a_backbone_trusts_it(self, tmp_path):
        config = TrainConfig(data_dir="d", data="", backbone="named_here:Backbone")
        Run(tmp_path / "run").begin(config, overwrite=False)
        assert Run(tmp_path / "run").config() == config

    @pytest.mark.parametrize("name", ["subprocess:Popen", "os:system", "builtins:eval"])
    def test_nothing_but_layers_is_called(self, name):
        from clsd_tf import get_backbone

        with pytest.raises(ValueError, match="A backbone is a class of layers"):
            get_backbone(name, [], args=["touch", "x"])

    def test_lambda_layers_of_a_keras_file_are_refused(self, tmp_path):
        import tf_keras as keras

        model = keras.Sequential([keras.Input([1]), keras.layers.Lambda(lambda x: x + 1.0)])
        model.save(tmp_path / "model.keras")
        with pytest.raises(ValueError, match="safe_mode"):
            keras.models.load_model(tmp_path / "model.keras")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line) for line in pinned), pinned
    return {
        canonicalize_name(name): version for name, _, version in (p.partition("==") for p in pinned)
    }


def test_the_lock_file_pins_all_that_is_installed_for_the_package():
    """Whatever setup.py asks for, with the extra dev, and what that asks for in turn."""
    wanted, seen = [("clsd_tf", {"", "dev"})], set()
    while wanted:
        name, extras = wanted.pop()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform, or optional
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                continue
            key = canonicalize_name(requirement.name)
            if (key, frozenset(requirement.extras)) not in seen:
                seen.add((key, frozenset(requirement.extras)))
                wanted.append((requirement.name, {"", *requirement.extras}))
    needed = {name for name, _ in seen} - {"setuptools", "wheel", "clsd-tf"}
    assert len(needed) > 60
    installed = {canonicalize_name(d.name) for d in importlib.metadata.distributions()}
    assert sorted(needed & installed - pins().keys()) == []


@pytest.mark.parametrize(
    ("packages", "message", "status"),
    [
        ([], "NOTHING WAS AUDITED", 0),
        ([{"name": "a", "skip_reason": "not found"}], "NOTHING WAS AUDITED", 0),
        ([{"name": "a", "version": "1", "vulns": []}], "no known vulnerability in 1 packages", 0),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            "a 1: CVE-1, mended in 2",
            1,
        ),
    ],
)
def test_an_audit_that_saw_nothing_does_not_pass_for_one(tmp_path, packages, message, status):
    (tmp_path / "log").write_text("no connection")
    (tmp_path / "report").write_text(json.dumps({"dependencies": packages}))
    code = (ROOT / ".ci" / "read_audit.py").read_text()
    reader = types.ModuleType("read_audit")
    exec(compile(code, "read_audit.py", "exec"), reader.__dict__)
    told, received = reader.told(tmp_path / "report", tmp_path / "log")
    assert message in told
    assert received == status
