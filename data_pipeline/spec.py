r"""Drafts the spec of an unknown click log, and checks a spec against a log.

python -m data_pipeline.spec draft clicks.csv --output=clicks.toml
python -m data_pipeline.spec draft 'logs/*.parquet' --label=is_click --user=member
python -m data_pipeline.spec check clicks.toml clicks.csv

`draft LOG` writes a commented spec: types, roles, encodings, and warnings of columns that are known
only after the click, tell clicks too well, or hold nothing. Read it; what stands after EDIT has to
be decided. `check SPEC LOG` explains what is wrong or odd, and fails if there are errors; `check
SPEC` alone reads the spec. LOG is a file, a glob or a directory. Then: `clsd-prepare`.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
import tempfile

from absl import app, flags

from data_pipeline.cli import run_main, write_results
from data_pipeline.directories import whole_file
from data_pipeline.progress import steps

# How a command that takes arguments beside flags says so.
ARGUMENTS = "draft LOG | check SPEC [LOG]"

_OUTPUT = flags.DEFINE_string(
    "output", None, "draft: where the spec goes; default: the log's name with .toml, here."
)
_NAME = flags.DEFINE_string("name", None, "draft: what the log is called; default: its file name.")
_LABEL = flags.DEFINE_string("label", None, "draft: the column that says whether it was clicked.")
_USER = flags.DEFINE_string("user", None, "draft: the column with the user's id.")
_ITEM = flags.DEFINE_string("item", None, "draft: the column with the item's id.")
_TIMESTAMP = flags.DEFINE_string("timestamp", None, "draft: the column that says when.")
_SAMPLE_ROWS = flags.DEFINE_integer(
    "sample_rows", 200_000, "Rows that are looked at, spread over the log.", 1000
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "draft: replace a file in --output.")


def main(argv: list[str]) -> None:
    """Drafts or checks by the arguments."""
    arguments = argv[1:]
    if len(arguments) == 2 and arguments[0] == "draft":
        _draft(arguments[1])
    elif len(arguments) in (2, 3) and arguments[0] == "check":
        _check(arguments[1], *arguments[2:])
    else:
        raise app.UsageError(
            f"`clsd-spec` drafts or checks. Received: {' '.join(arguments) or 'no arguments'}. "
            f"Expected: {ARGUMENTS}."
        )


def _draft(inputs: str) -> None:
    from data_pipeline.engines import open_engine
    from data_pipeline.input_files import find_log
    from data_pipeline.log_profile import profile_log
    from data_pipeline.spec_draft import draft_spec

    files = find_log(inputs, "*")
    stem = files.paths[0].name.split(".")[0] if len(files.paths) == 1 else files.directory.name
    name = _NAME.value or re.sub(r"\W+", "_", stem).strip("_") or "my_log"
    output = pathlib.Path(_OUTPUT.value or f"{name}.toml")
    if output.exists() and not _OVERWRITE.value:
        raise FileExistsError(
            f"{output} exists, and may have been edited. Received: that --output. Expected: a file "
            "that is not there. Give --overwrite to replace it, or choose "
            "another --output."
        )
    given = {"label": _LABEL, "user": _USER, "item": _ITEM, "timestamp": _TIMESTAMP}
    with tempfile.TemporaryDirectory() as directory, steps() as begin:
        begin(f"Looking at {files.listed()}")
        engine = open_engine(directory)
        roles = {role: flag.value for role, flag in given.items()}
        log = profile_log(engine, files, _SAMPLE_ROWS.value, roles)
        draft = draft_spec(log, name)
        size = log.sample.size
        engine.disconnect()
    with whole_file(output) as beside:
        beside.write_text(draft.text, encoding="utf-8")
    for finding in draft.findings:
        print(f"{finding}\n")
    for edit in draft.edits:
        print(f"to decide: {edit}\n")
    print(
        f"The spec is {output}. Read it, then: clsd-spec check {output} {inputs} && "
        f"clsd-prepare --spec={output} --input={inputs} --output_dir=prepared"
    )
    write_results(
        output.with_suffix(".draft.json"),
        config={"input": inputs, "name": name, "output": str(output)},
        metrics={
            "rows": log.sample.rows,
            "rows_looked_at": size,
            "click_rate": log.click_rate,
            "roles": dataclasses.asdict(log.roles),
            "findings": [dataclasses.asdict(finding) for finding in draft.findings],
            "edits": draft.edits,
        },
    )


def _check(spec: str, inputs: str | None = None) -> None:
    from clsd_tf.spec import read_spec
    from data_pipeline.datasets import spec_path
    from data_pipeline.engines import open_engine
    from data_pipeline.input_files import find_log
    from data_pipeline.spec_check import check_against

    path = spec_path(spec)
    log = read_spec(path)
    if inputs is None:
        print(f"{path} is a spec of {len(log.columns)} columns. Give LOG to check it against one.")
        return
    files = find_log(inputs, log.input.files, [table.file for table in log.tables.values()])
    with tempfile.TemporaryDirectory() as directory, steps() as begin:
        begin(f"Checking against {files.listed()}")
        engine = open_engine(directory)
        findings = check_against(engine, log, files, _SAMPLE_ROWS.value)
        engine.disconnect()
    for finding in findings:
        print(f"{finding}\n")
    counts: collections.Counter[str] = collections.Counter(finding.level for finding in findings)
    levels = ("error", "warning", "note")
    told = ", ".join(f"{counts[n]} {n}{'s' * (counts[n] != 1)}" for n in levels)
    print(f"{path} against {files.listed()}: {told}.")
    write_results(
        pathlib.Path(f"{path.stem}.check.json"),
        config={"spec": str(path), "input": inputs},
        metrics={"findings": [dataclasses.asdict(finding) for finding in findings], **counts},
    )
    if counts["error"]:
        raise ValueError(
            f"The spec does not fit the log. Received: {told}. Expected: no errors; mend what "
            "stands after 'error' above."
        )


def cli() -> None:
    """Entry point of the console script `clsd-spec`."""
    run_main(main)


if __name__ == "__main__":
    cli()
