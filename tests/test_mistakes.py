"""The likeliest mistakes with commands: each ends in a sentence that says how to mend it.

What is wrong is found before TensorFlow is imported, wherever that is possible, and before a
directory is made that would hold the mistake. Mistakes of flags as such: `tests/test_mains.py`.
"""

from __future__ import annotations

import ast
import json
import pathlib
import re

import pytest

from data_pipeline import cli
from tests import mains

SPEC = """
name = "shop"
[split]
by = "time"
[columns]
user = { role = "user", type = "int", encoding = "vocabulary" }
item = { role = "item", type = "string", encoding = "vocabulary" }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int" }
"""
LOG = "user,item,click,time\n" + "".join(
    f"{n % 7},i{n % 5},{n % 2},{1_700_000_000_000 + n}\n" for n in range(60)
)
PREPARE = ("data_pipeline.prepare", "--spec=spec.toml", "--input=log.csv", "--output_dir=out")
TRAIN = ("experiments.train", "--data_dir=prepared", "--model_dir=new")
COMPARE = ("experiments.compare", "--data_dir=prepared", "--output_dir=new")
SIMULATE = ("data_pipeline.simulate", "--output_dir=new")
DEPLOY = ("experiments.deploy", "--base_dir=served", "--output_dir=deployment")
ONLINE = ("experiments.simulate_online", "--output_dir=new")
# What is wrong, the command, what the sentence names as received, and as expected.
MISTAKES = {
    "a spec that is not there": (
        ["data_pipeline.prepare", "--spec=shop", "--input=log.csv", "--output_dir=out"],
        "'shop'",
        "the path of a TOML file, or the name of a ready spec: kuairand",
    ),
    "a log that is not there": (
        [PREPARE[0], PREPARE[1], "--input=logs/*.csv", PREPARE[3]],
        "logs/*.csv, which is not there",
        "a file, a glob in quotes, or a directory",
    ),
    "a log of a kind that is not read": (
        [PREPARE[0], PREPARE[1], "--input=log.xlsx", PREPARE[3]],
        "another kind of file",
        ".csv, .csv.gz",
    ),
    "files of two kinds": (
        [PREPARE[0], PREPARE[1], "--input=two.*", PREPARE[3]],
        "two.csv (.csv), two.parquet (.parquet)",
        "files of one kind",
    ),
    "a directory without the log": (
        [PREPARE[0], "--spec=files.toml", "--input=empty", PREPARE[3]],
        "nothing",
        "files of the log",
    ),
    "an output that would be lost": (
        [*PREPARE[:3], "--output_dir=full"],
        "notes.txt",
        "an empty folder, or none",
    ),
    "an output that is there": (
        [*PREPARE[:3], "--output_dir=prepared"],
        "manifest.json there",
        "--overwrite to replace it",
    ),
    "vocabularies that grow from nothing": (
        [*PREPARE, "--grow_vocabulary"],
        "--grow_vocabulary without --encoding_from",
        "both",
    ),
    "two kinds of noise": (
        [*PREPARE, "--noise=items:.1:.4", "--noise_rates=.1"],
        "--noise=items:.1:.4",
        "one kind of noise",
    ),
    "noise without a rate": ([*PREPARE, "--noise=clickbait"], "'clickbait'", "items:SHARE:RATE"),
    "noise of items in a simulation": (
        [*SIMULATE, "--noise=items:.1:.4"],
        "'items:.1:.4'",
        "interest:RATE",
    ),
    "a simulation into a full folder": (
        ["data_pipeline.simulate", "--output_dir=full", "--rows=100"],
        "notes.txt",
        "an empty folder",
    ),
    "a draft of no log": (
        ["data_pipeline.spec", "draft", "logs.csv"],
        "logs.csv, which is not there",
        "a file, a glob",
    ),
    "a draft over an edited spec": (
        ["data_pipeline.spec", "draft", "log.csv", "--output=spec.toml"],
        "that --output",
        "--overwrite",
    ),
    "a label that is no column": (
        ["data_pipeline.spec", "draft", "log.csv", "--label=clicked", "--output=new.toml"],
        "'clicked'",
        "user, item, click, time",
    ),
    "neither draft nor check": (["data_pipeline.spec", "chekc", "x"], "chekc x", "draft LOG"),
    "a data set that is not there": (
        ["experiments.train", "--data_dir=prepard", "--model_dir=new"],
        "no folder prepard",
        "an `--output_dir` of `clsd-prepare`",
    ),
    "a raw log as data set": (
        ["experiments.train", "--data_dir=full", "--model_dir=new"],
        "a folder with notes.txt",
        "an `--output_dir` of `clsd-prepare`",
    ),
    "an input service without its scheme": (
        [*TRAIN, "--input_service=localhost:7077"],
        "'localhost:7077'",
        "as grpc://host:port",
    ),
    "an input service that is not there": (
        [*COMPARE, "--input_service=grpc://localhost:1"],
        "no connection at grpc://localhost:1",
        "the address that `clsd-input-service` prints",
    ),
    "a worker of no dispatcher": (
        ["data_pipeline.input_service", "--role=worker"],
        "--dispatcher=None",
        "--dispatcher=grpc://host:port",
    ),
    "a journal of a worker": (
        [
            "data_pipeline.input_service",
            "--role=worker",
            "--dispatcher=grpc://h:1",
            "--work_dir=new",
        ],
        "--work_dir with --role=worker",
        "one of them",
    ),
    "a teacher without need": (
        [*TRAIN, "--method=plain", "--teacher=ema"],
        "--teacher",
        "a method that has one",
    ),
    "folds without their teacher": (
        [*TRAIN, "--num_folds=5"],
        "--num_folds with --teacher=frozen",
        "that teacher",
    ),
    "a confidence that does nothing": (
        [*TRAIN, "--method=plain", "--confidence=affine"],
        "--confidence",
        "none of them",
    ),
    "an option of another method": (
        [*TRAIN, "--method=t_ce", '--method_options={"beta": 1}'],
        "beta",
        "drop_rate",
    ),
    "options in single quotes": (
        [*TRAIN, "--backbone_options={'units': [8]}"],
        "{'units': [8]}",
        "names in double quotes",
    ),
    "options that are no object": ([*TRAIN, "--backbone_options=[8]"], "'[8]'", "names and values"),
    "a backbone with a typing error": ([*TRAIN, "--backbone=dcn"], "'dcn'", "dcn_v2"),
    "a teacher that is no run": ([*TRAIN, "--teacher_dir=full"], "full", "a --model_dir of"),
    "a teacher that is unfinished": (
        [*TRAIN, "--teacher_dir=unfinished"],
        "no results.json there",
        "a finished run",
    ),
    "a run to go on from that is none": ([*TRAIN, "--init_from=full"], "full", "a --model_dir of"),
    "scores for a teacher of weights": (
        [*TRAIN, "--scores_dir=scores"],
        "--teacher=frozen",
        "--teacher=scores",
    ),
    "generations of an average": (
        [*TRAIN, "--teacher=ema", "--generations=2"],
        "--generations=2 with --teacher=ema",
        "--teacher=frozen",
    ),
    "a teacher of no rows": (
        [*TRAIN, "--teacher_fraction=0"],
        "0.0",
        "more than 0, and at most 1",
    ),
    "rates that are not told": (
        [*TRAIN, "--method=mixture_oracle_rates"],
        "none",
        "--confidence_options",
    ),
    "a full folder as run": (
        ["experiments.train", "--data_dir=prepared", "--model_dir=full"],
        "that --model_dir",
        "a folder that is empty or not there",
    ),
    "a run with other options": (
        ["experiments.train", "--data_dir=prepared", "--model_dir=unfinished", "--seed=9"],
        "seed: now 9, then 0",
        "--overwrite",
    ),
    "an evaluation of no run": (
        ["experiments.evaluate", "--model_dir=full"],
        "full",
        "a --model_dir of `clsd-train`",
    ),
    "an evaluation too early": (
        ["experiments.evaluate", "--model_dir=unfinished"],
        "no results.json there",
        "a finished run",
    ),
    "an export without its log": (
        ["experiments.evaluate", "--model_dir=unfinished", "--saved_model=served/1"],
        "one of --saved_model and --raw",
        "both, or neither",
    ),
    "a score of no run": (["experiments.score", "--model_dir=nowhere"], "nowhere", "a --model_dir"),
    "an export of no run": (["experiments.export", "--model_dir=full"], "full", "a --model_dir of"),
    "storage of no run": (["experiments.table_storage", "--model_dir=full"], "full", "--model_dir"),
    "an arm that is not": ([*COMPARE, "--arms=plain,clds"], "'clds'", "clsd"),
    "a variant that is not": ([*COMPARE, "--arms=clsd:confidense=affine"], "confidense", "OPTION"),
    "a test split of origins": (
        [*COMPARE, "--final", "--origins=20220430"],
        "--final and --origins",
        "one of them",
    ),
    "noise in origins": (
        [*COMPARE, "--noise_rates=.1", "--origins=20220430"],
        "--noise_rates and --origins",
        "one of them",
    ),
    "rates that are no numbers": ([*COMPARE, "--noise_rates=a,b"], "'a,b'", "a rate in [0, 1]"),
    "a base path without versions": (DEPLOY, "--base_dir=served", "numbered exports"),
    "a promotion of nothing": ([*DEPLOY, "--promote"], "--output_dir=deployment", "--stable"),
    "two decisions at once": (
        [*DEPLOY, "--promote", "--rollback"],
        "--promote, --rollback",
        "one of them",
    ),
    "an experiment with one arm": ([*ONLINE, "--arms=clsd"], "--arms=clsd", "two or more"),
    "an experiment in a full folder": (
        ["experiments.simulate_online", "--output_dir=full"],
        "that --output_dir",
        "a folder that is empty",
    ),
    "drift of nothing": (
        ["experiments.drift", "--data_dir=prepared"],
        "--input=None, --requests=None",
        "one of --input and --requests",
    ),
    "drift from no data set": (
        ["experiments.drift", "--data_dir=full", "--input=log.csv"],
        "No such file",
        "the --output_dir of `clsd-prepare`",
    ),
    "kills in a full folder": (
        ["experiments.kills", "--output_dir=full"],
        "that --output_dir",
        "a folder that is empty",
    ),
    "a demo in a full folder": (
        ["experiments.demo", "--output_dir=full"],
        "that --output_dir",
        "a folder that is empty",
    ),
    "a stage that is not": (
        ["experiments.benchmark", "--output_dir=new", "--only=trian"],
        "--only=trian",
        "names of stages",
    ),
    "logs of growth that shrink": (
        ["experiments.benchmark", "--output_dir=new", "--growth_rows=5000,2000"],
        "--growth_rows=5000,2000",
        "rising numbers",
    ),
    "an environment that is not": (
        ["experiments.benchmark_environments", "--directory=new", "--only=torhc"],
        "--only=torhc",
        "names of environments",
    ),
    "KuaiRand in another folder": (
        ["data_pipeline.datasets.kuairand", "--input=full"],
        "full",
        "the directory of the official logs",
    ),
    "MovieLens in another folder": (
        ["data_pipeline.datasets.movielens", "--input=full", "--output_dir=new"],
        "notes.txt",
        "u.data",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A folder of someone who is about to make mistakes."""
    from data_pipeline.manifest import data_checksum
    from experiments.runs import Run, TrainConfig

    folder = tmp_path_factory.mktemp("work")
    for name in ("full", "empty", "served", "prepared"):
        (folder / name).mkdir()
    (folder / "full" / "notes.txt").write_text("dear")
    (folder / "spec.toml").write_text(SPEC)
    (folder / "files.toml").write_text(SPEC + '[input]\nfiles = "impressions-*.csv"\n')
    (folder / "log.csv").write_text(LOG)
    for name in ("log.xlsx", "two.csv", "two.parquet"):
        (folder / name).write_text("")
    manifest = {"name": "shop", "layout": "columnar", "block_rows": 4, "rows": {}, "shards": []}
    (folder / "prepared" / "manifest.json").write_text(json.dumps(manifest))
    config = TrainConfig(data_dir="prepared", data=data_checksum(folder / "prepared"))
    Run(folder / "unfinished").begin(config, overwrite=False)
    return folder


@pytest.fixture(autouse=True)
def no_tensorflow(place, monkeypatch):
    """The mistakes are made there, and found before TensorFlow would have been imported."""

    def load_tensorflow() -> None:
        raise AssertionError("TensorFlow is imported before the mistake is found.")

    monkeypatch.setattr(cli, "load_tensorflow", load_tensorflow)
    monkeypatch.chdir(place)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake, place):
    command, received, expected = MISTAKES[mistake]
    before = {path for path in place.rglob("*")}
    done = mains.run(*command)
    told = " ".join(done.err.split())
    assert done.status in (1, 2), done
    assert "Traceback" not in told
    found = re.search(r"Received: (.*?)(?:Expected(?: one of)?: (.*))", told)
    assert found, told
    assert received in found[1], told
    assert expected in found[2], told
    assert {path for path in place.rglob("*")} == before, "The mistake left something behind."


def test_there_are_enough_and_of_every_command():
    assert len(MISTAKES) >= 30
    assert {command[0] for command, *_ in MISTAKES.values()} >= set(mains.MAINS.values()) - {
        # These open runs and data sets as the others do.
        "experiments.report",
        "experiments.retrieve",
    }


# Files in which a sentence is put together elsewhere, or is for Python itself.
BUILT_ELSEWHERE = {
    "clsd_tf/__init__.py": "AttributeError, as Python words it",
    "clsd_tf/confidence_base.py": "a message that a graph may have to raise too",
    "clsd_tf/features.py": "KeyError of a mapping",
    "clsd_tf/spec.py": "all mistakes of a spec, a line for each",
    "data_pipeline/datasets/__init__.py": "a message in a variable",
    "data_pipeline/flag_errors.py": "sentences about flags: test_mains.py",
    "data_pipeline/integrity.py": "what is wrong with each shard",
    "data_pipeline/manifest.py": "a cause, which the sentence around it tells",
    "data_pipeline/prepare.py": "a validator's own sentence",
    "data_pipeline/simulate.py": "a validator's own sentence",
}


def raised() -> list[tuple[str, str]]:
    """File and literal text of each error that the packages raise."""
    found = []
    for package in ("clsd_tf", "data_pipeline", "experiments"):
        for path in sorted((mains.ROOT / package).rglob("*.py")):
            if "benchmarks" in path.parts:  # processes of their own, read by their driver
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                call = node.exc if isinstance(node, ast.Raise) else None
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Error"):
                    texts = (n.value for n in ast.walk(call) if isinstance(n, ast.Constant))
                    text = "".join(text for text in texts if isinstance(text, str))
                    found.append((str(path.relative_to(mains.ROOT)), text))
    return found


def test_every_error_says_what_was_received():
    silent = {file for file, text in raised() if text and "Received" not in text}
    assert silent <= set(BUILT_ELSEWHERE), silent - set(BUILT_ELSEWHERE)
