"""All commands alike: help with examples, flags of one meaning, flag files, mistakes of flags."""

from __future__ import annotations

import collections
import re
import subprocess
import sys

import pytest
from absl import flags

from tests import mains
from tests.doc_commands import commands_in

# What is passed where a flag is needed but is not what the test is about.
ANYTHING = "anything"
# Of several flags the command needs one; which, is no matter of a flag alone.
FURTHER_NEEDED = {"experiments.drift": [f"--input={ANYTHING}"]}
# A name stands for one thing in all commands. Where forms differ, here is why.
FORMS_THAT_DIFFER = {
    "noise": "clsd-compare takes several worlds, the others plant one kind of noise",
    "noise_rates": "the same: a list of worlds, each with rates",
    "judge": "clsd-retrieve judges by one satisfaction column, clsd-compare by several",
    "only": "a list of stages, or of environments",
}


def needed(module) -> list[str]:
    """Arguments without which the command does not begin."""
    named = [
        f"--{flag.name}={ANYTHING}"
        for flag in mains.own_flags(module)
        if any("must have a value other than None" in str(v.message) for v in flag.validators)
    ]
    return [*named, *FURTHER_NEEDED.get(module.__name__, [])]


def wrong_values(flag: flags.Flag) -> list[str]:
    """Values that a flag of its type does not take."""
    kind = flag.flag_type()
    if "enum" in kind:
        return ["no_such_choice"]
    wrong = {"int": ["three", "1.5"], "float": ["much", "nan"], "bool": ["maybe"]}.get(kind, [])
    lower = getattr(flag.parser, "lower_bound", None)
    return [*wrong, *([] if lower is None else [str(lower - 1)])]


def mistakes_of(module) -> dict[str, list[str]]:
    """Argument that is wrong -> arguments to try it with."""
    given = needed(module)
    first = mains.own_flags(module)[0].name
    mistakes = {
        f"--{first[:-1]}_=x": [f"--{first[:-1]}_=x"],
        "--no_such_flag_at_all": ["--no_such_flag_at_all"],
        "--flagfile": ["--flagfile=no_such_file.txt"],
        "--learning_rat=1": ["--learning_rat=1"],
    }
    for flag in mains.own_flags(module):
        others = [argument for argument in given if not argument.startswith(f"--{flag.name}=")]
        for value in wrong_values(flag):
            mistakes[f"--{flag.name}={value}"] = [*others, f"--{flag.name}={value}"]
        if flag.flag_type() == "bool":
            mistakes[f"--no{flag.name}=x"] = [*others, f"--no{flag.name}=x"]
    if given:
        mistakes[given[0].partition("=")[0]] = given[1:]
        mistakes[f"{given[0].partition('=')[0]} "] = [given[0].partition("=")[0]]
    if not hasattr(module, "ARGUMENTS"):
        mistakes["stray"] = [*given, "stray"]
    return mistakes


@pytest.mark.parametrize("name", mains.MODULES)
def test_mistaken_flags_are_told_in_one_sentence(name):
    with mains.imported(name) as module:
        mistakes = mistakes_of(module)
    assert len(mistakes) >= 4
    for received, arguments in mistakes.items():
        done = mains.run(name, *arguments)
        assert done.status == 2, (received, done)
        sentence, hint = done.err.strip().rsplit("\n", 1)
        assert hint == "Pass --help to see the flags."
        assert re.search(r"Received: .*\S.*Expected: .*\S", sentence, re.DOTALL), sentence
        flag = received.strip().partition("=")[0].lstrip("-").removeprefix("no")
        assert flag in sentence, (received, sentence)


def test_the_nearest_flag_is_suggested():
    done = mains.run("experiments.train", "--data_dri=prepared")
    assert "Received: --data_dri=prepared. Expected: --data_dir" in done.err
    done = mains.run("data_pipeline.prepare", "--ouput_dir=x", "--spec=y")
    assert "Expected: --output_dir. Did you mean that?" in done.err


def test_all_flags_that_are_missing_are_named():
    done = mains.run("data_pipeline.prepare", "--spec=my_log.toml")
    assert "Received: no --input and no --output_dir." in done.err


@pytest.mark.parametrize("name", mains.MODULES)
def test_help_shows_three_examples(name):
    done = mains.run(name, "--help")
    assert done.status == 0
    examples = list(commands_in(done.out.partition("\nFlags:\n")[0], name))
    own = {" ".join(c.arguments) for c in examples if c.module == name}
    least = 2 if name in mains.FURTHER else 3  # the third of those prepares what was made
    assert len(own) >= least, own
    assert "/tmp" not in done.out


def test_a_flag_has_one_meaning_in_all_commands():
    forms: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    chosen: dict[str, tuple[str, ...]] = {}
    for name in mains.MODULES:
        with mains.imported(name) as module:
            for flag in mains.own_flags(module):
                forms[flag.name].setdefault(flag.flag_type(), []).append(name)
                assert re.fullmatch(r"[a-z]+(_[a-z]+)*", flag.name), flag.name
                assert flag.help, flag.name
                choices = tuple(getattr(flag.parser, "enum_values", None) or ())
                known = chosen.setdefault(flag.name, choices)
                chosen[flag.name] = max(known, choices, key=len)
                assert set(known) <= set(choices) or set(choices) <= set(known), flag.name
    differing = {flag: kinds for flag, kinds in forms.items() if len(kinds) > 1}
    assert set(differing) <= set(FORMS_THAT_DIFFER), differing
    words = {flag.replace("_", "") for flag in forms}
    assert len(words) == len(forms)  # no name is written in two ways


def test_flags_come_from_a_file(tmp_path):
    file = tmp_path / "flags.txt"
    file.write_text(f"--rows=400\n--users=20\n--items=9\n--output_dir={tmp_path / 'log'}\n")
    done = mains.run("data_pipeline.simulate", f"--flagfile={file}", "--rows=500")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == str(tmp_path / "log" / "results.json")
    assert '"rows": 500' in (tmp_path / "log" / "results.json").read_text()  # the last one counts


def test_tensorflow_is_loaded_once_without_a_search_for_garbage():
    program = """
import gc
from data_pipeline.cli import load_tensorflow
collections = []
gc.callbacks.append(lambda phase, info: collections.append(info))
load_tensorflow()
assert len(collections) < 20, len(collections)
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 100_000, frozen
load_tensorflow()  # what was made since is left as it is
assert gc.get_freeze_count() <= frozen
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
