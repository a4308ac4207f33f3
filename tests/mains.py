"""Commands in the process of the tests: each with its flags alone, though they share names."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

from absl import flags

from data_pipeline.cli import run_main

ROOT = pathlib.Path(__file__).resolve().parents[1]


def console_scripts() -> dict[str, str]:
    """Command -> module, from the literal in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (mains,) = (n.value for n in tree.body if isinstance(n, ast.Assign))
    return ast.literal_eval(mains)


MAINS = console_scripts()
# Those that are run by `python -m` alone.
FURTHER = ("data_pipeline.datasets.kuairand", "data_pipeline.datasets.movielens")
MODULES = (*MAINS.values(), *FURTHER)


class Finished(NamedTuple):
    """A command that ran: its exit status and what it said."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def imported(name: str) -> Iterator[types.ModuleType]:
    """The module of a command, imported anew beside no flags of other commands."""
    parent, _, child = name.rpartition(".")
    package = importlib.import_module(parent)
    state = {
        key: {k: list(v) if isinstance(v, list) else v for k, v in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in vars(flags.FLAGS).items()
    }
    earlier, attribute = sys.modules.pop(name, None), vars(package).get(child)
    by_module = flags.FLAGS.flags_by_module_dict()
    for module in {*MODULES, "__main__"} & set(by_module):
        for flag in list(by_module[module]):
            if flag.name in flags.FLAGS:
                delattr(flags.FLAGS, flag.name)
    try:
        yield importlib.import_module(name)
    finally:
        vars(flags.FLAGS).clear()
        vars(flags.FLAGS).update(state)
        sys.modules.pop(name, None)
        if earlier is not None:
            sys.modules[name] = earlier
        if attribute is not None:
            setattr(package, child, attribute)


def own_flags(module: types.ModuleType) -> list[flags.Flag]:
    """The flags that a command defines."""
    return list(flags.FLAGS.flags_by_module_dict()[module.__name__])


def run(name: str, *arguments: str) -> Finished:
    """Runs a command as its console script would, and says how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with (
        imported(name) as module,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        flags.FLAGS.unparse_flags()
        try:
            run_main(module.main, [name, *arguments])
            status = 0
        except SystemExit as error:
            status = error.code or 0
    return Finished(status, out.getvalue(), err.getvalue())
