from __future__ import annotations

import ast
import pathlib
import sys

import pytest

from clsd_tf import spec_checks
from clsd_tf.spec import SpecError, parse_spec
from tests.clsd_tf.spec_texts import BASE, feature, messages, spec_text

DAYS = BASE["split"]
USERS = {"users": '{ file = "users.csv", key = "user_id" }'}
# What is changed in a good spec -> the one mistake that it then has.
MISTAKES = {
    "reserved name": (
        {"columns": {"_x": '{ type = "int", encoding = "vocabulary" }'}},
        "column '_x', `name`: Names that begin with `_` are reserved.",
    ),
    "name that is a path": (
        {"columns": {'"../x"': '{ type = "int", encoding = "vocabulary" }'}},
        "column '../x': A name must be no path. Received: '../x'.",
    ),
    "names that differ by case": (
        {"columns": {"Click": '{ type = "int", encoding = "vocabulary" }'}},
        "column 'Click': Names must differ by more than case. Received also: 'click'.",
    ),
    "table by the name of the quarantine": (
        {"tables": {"part-0": '{ file = "users.csv", key = "user_id" }'}},
        "[tables.part-0]: The quarantine of the log has this name.",
    ),
    "table outside of the log": (
        {"tables": {"users": '{ file = "../users.csv", key = "user_id" }'}},
        "[tables.users.file]: Must be a path below the directory of the log. Received: '../users",
    ),
    "log outside of its directory": (
        {"input": {"files": '"/var/log/*"'}},
        "[input.files]: Must be a path below the directory of the log. Received: '/var/log/*'",
    ),
    "infinite boundaries": (
        feature('type = "int", encoding = "buckets", boundaries = [1, inf]'),
        "column 'x', `boundaries`: Boundaries must be finite numbers. Received: [1.0, inf].",
    ),
    "default of more than 64 bits": (
        feature(f'type = "int", encoding = "vocabulary", default = {2**63}'),
        f"column 'x', `default`: Must be an integer of 64 bits. Received: {2**63}.",
    ),
    "unknown table": (
        {"tables": USERS, **feature('table = "user", type = "int", encoding = "vocabulary"')},
        "column 'x', `table`: Unknown side table 'user'. Declared under [tables]: users.",
    ),
    "no tables": (
        feature('table = "user", type = "int", encoding = "vocabulary"'),
        "column 'x', `table`: Unknown side table 'user'. Declared under [tables]: none.",
    ),
    "no encoding": (
        feature('role = "group", type = "int"'),
        "column 'x', `encoding`: A column with role 'group' needs one of: vocabulary, hash,",
    ),
    **{
        f"{option} without a list": (
            feature(f'type = "int", encoding = "vocabulary", {option} = {value}'),
            f"column 'x', `{option}`: Lists need `max_length`",
        )
        for option, value in {"separator": '","', "keep": '"first"'}.items()
    },
    "list of another role": (
        feature('role = "group", type = "int", encoding = "vocabulary", max_length = 3'),
        "column 'x', `max_length`: A column with role 'group' holds one value, not a list.",
    ),
    "list of numbers": (
        feature('type = "int", encoding = "numeric", max_length = 3'),
        "column 'x', `encoding`: A list needs ids: one of vocabulary, hash, identity, buckets.",
    ),
    "threshold": (
        feature('type = "int", encoding = "numeric", positive_from = 3'),
        "column 'x', `positive_from`: Only the label has a threshold.",
    ),
    "unit": (
        feature('type = "int", encoding = "numeric", unit = "s"'),
        "column 'x', `unit`: Only the timestamp has a unit.",
    ),
    **{
        f"{role} as text": (
            {"columns": {name: f'{{ role = "{role}", type = "string" }}'}},
            f"column '{name}', `type`: A column with role '{role}' is a number: 'int' or 'float'.",
        )
        for role, name in {"satisfaction": "x", "weight": "x", "label": "click"}.items()
    },
    "fractional timestamp": (
        {"columns": {"time_ms": '{ role = "timestamp", type = "float" }'}},
        "column 'time_ms', `type`: A timestamp is an 'int' epoch in `unit`, or an ISO 8601",
    ),
    **{
        f"{option} of another encoding": (
            feature(f'type = "int", encoding = "numeric", {option} = {value}'),
            f"column 'x', `{option}`: `{option}` belongs to encoding = \"{home}\". Received: "
            'encoding = "numeric", whose options are scaling.',
        )
        for option, value, home in [
            ("min_count", 2, "vocabulary"),
            ("max_size", 2, "vocabulary"),
            ("num_oov", 2, "vocabulary"),
            ("num_buckets", 2, "hash"),
            ("num_values", 2, "identity"),
            ("boundaries", [2], "buckets"),
            ("quantiles", 2, "buckets"),
        ]
    },
    "scaling of ids": (
        feature('type = "int", encoding = "hash", num_buckets = 2, scaling = "log"'),
        '`scaling` belongs to encoding = "numeric". Received: encoding = "hash"',
    ),
    **{
        f"{encoding} of text": (
            feature(f'type = "string", encoding = "{encoding}"{options}'),
            f"column 'x', `type`: encoding = \"{encoding}\" needs type 'int' or 'float'.",
        )
        for encoding, options in {"buckets": ", quantiles = 3", "numeric": ""}.items()
    },
    **{
        f"{encoding} of fractions": (
            feature(f'type = "float", encoding = "{encoding}"{options}'),
            f"column 'x', `type`: encoding = \"{encoding}\" needs type 'int' or 'string'.",
        )
        for encoding, options in {"hash": ", num_buckets = 3", "vocabulary": ""}.items()
    },
    "hash of unknown size": (
        feature('type = "int", encoding = "hash"'),
        "column 'x', `num_buckets`: A hash needs its number of buckets.",
    ),
    "identity of unknown size": (
        feature('type = "int", encoding = "identity"'),
        "column 'x', `num_values`: An identity encoding needs the number of values, 0 to n - 1.",
    ),
    "identity of text": (
        feature('type = "string", encoding = "identity", num_values = 3'),
        "column 'x', `type`: encoding = \"identity\" needs type 'int'.",
    ),
    "boundaries and quantiles": (
        feature('type = "int", encoding = "buckets", boundaries = [1], quantiles = 2'),
        "column 'x', `boundaries`: Give either `boundaries` or `quantiles`, not both",
    ),
    "no boundaries": (
        feature('type = "int", encoding = "buckets", boundaries = []'),
        "column 'x', `boundaries`: Boundaries must rise strictly. Received: [].",
    ),
    "equal boundaries": (
        feature('type = "int", encoding = "buckets", boundaries = [1, 3, 3]'),
        "Boundaries must rise strictly. Received: [1.0, 3.0, 3.0].",
    ),
    "shares nothing": (
        feature('type = "int", shares = "item"'),
        "column 'x', `shares`: Must name a column with ids of its own. Received: 'item'. Columns "
        "with ids: item_id, user_id.",
    ),
    "shares a number": (
        {
            "columns": {
                "x": '{ type = "int", shares = "y" }',
                "y": '{ type = "int", encoding = "numeric" }',
            }
        },
        "column 'x', `shares`: Must name a column with ids of its own. Received: 'y'.",
    ),
    "shares what is shared": (
        {
            "columns": {
                "x": '{ type = "int", shares = "y" }',
                "y": '{ type = "int", shares = "item_id" }',
            }
        },
        "column 'x', `shares`: Must name a column with ids of its own. Received: 'y'.",
    ),
    "shares another type": (
        feature('type = "string", shares = "item_id"'),
        "column 'x', `type`: Must be 'int', as in column 'item_id' that it shares.",
    ),
    "shares with a dimension": (
        feature('type = "int", shares = "item_id", dim = 4'),
        "column 'x', `dim`: Is taken from column 'item_id' that it shares (16); drop it.",
    ),
    "shares with an encoding": (
        feature('type = "int", shares = "item_id", encoding = "vocabulary"'),
        "column 'x', `encoding`: Is taken from column 'item_id' that it shares; drop it.",
    ),
    "default of a label": (
        {"columns": {"click": '{ role = "label", type = "int", default = 0 }'}},
        "column 'click', `default`: A column with role 'label' is never filled in.",
    ),
    "default of another type": (
        feature('type = "int", encoding = "vocabulary", default = "none"'),
        "column 'x', `default`: Must be of type 'int'. Received: 'none'.",
    ),
    "true as a default": (
        feature('type = "int", encoding = "vocabulary", default = true'),
        "column 'x', `default`: Must be of type 'int'. Received: ",
    ),
    "two weights": (
        {
            "columns": {
                "x": '{ role = "weight", type = "float" }',
                "y": '{ role = "weight", type = "float" }',
            }
        },
        "column 'y', `role`: At most one column has role 'weight'. Received: x, y.",
    ),
    "group and activity": (
        {
            "split": {**DAYS, "train_from": '"2024-01-03"'},
            "activity": {"quantiles": "3"},
            **feature('role = "group", type = "int", encoding = "vocabulary"'),
        },
        "At most one column has role 'group'. Received: x, [activity].",
    ),
    **{
        f"no {role}": (
            {"columns": {name: None}},
            f"[columns]: A click log needs a column with role '{role}'.",
        )
        for role, name in {
            "user": "user_id",
            "item": "item_id",
            "label": "click",
            "timestamp": "time_ms",
        }.items()
    },
    "label of a side table": (
        {
            "tables": USERS,
            "columns": {"click": '{ role = "label", type = "int", table = "users" }'},
        },
        "column 'click', `table`: The label must be a column of the log, not of a side table.",
    ),
    "no model": (
        {
            "columns": {
                "user_id": '{ role = "user", type = "int", model_input = false }',
                "item_id": '{ role = "item", type = "int", model_input = false }',
            }
        },
        "[columns]: A model needs at least one column with an encoding.",
    ),
    "days and fractions": (
        {"split": {"by": '"user"', "test_from": '"2024-01-10"'}},
        '[split.test_from]: Belongs to by = "day". With by = "user" give fractions.',
    ),
    "nothing to train on": (
        {"split": {"by": '"time"', "valid_fraction": "0.5", "test_fraction": "0.5"}},
        "[split.valid_fraction]: `valid_fraction` + `test_fraction` must leave something",
    ),
    "no day": (
        {"split": {"test_from": '"2024-01-10"'}},
        '[split.valid_from]: by = "day" needs the first day of it',
    ),
    "fractions and days": (
        {"split": {**DAYS, "valid_fraction": "0.2"}},
        '[split.valid_fraction]: Belongs to by = "time" and by = "user".',
    ),
    "days of another type": (
        {
            "split": {**DAYS, "day_column": '"date"'},
            "columns": {"date": '{ role = "ignore", type = "int" }'},
        },
        "[split.valid_from]: Must be like 20220504, as the days are. Received: '2024-01-09'.",
    ),
    "days in disorder": (
        {"split": {**DAYS, "train_from": '"2024-01-09"'}},
        "Must rise: train_from < valid_from < test_from. Received: ['2024-01-09', '2024-01-09', "
        "'2024-01-10'].",
    ),
    "unknown day column": (
        {"split": {**DAYS, "day_column": '"date"'}},
        "[split.day_column]: 'date' is not declared under [columns]; role 'ignore' will do.",
    ),
    "day column and offset": (
        {
            "split": {**DAYS, "day_column": '"date"', "utc_offset": "8"},
            "columns": {"date": '{ role = "ignore", type = "string" }'},
        },
        "[split.utc_offset]: The day is taken from `day_column`; drop one of the two.",
    ),
    "history by a name in use": (
        {"history": {"name": '"click"'}},
        "[history.name]: A column is called 'click' already; choose another name.",
    ),
    "activity by a name in use": (
        {
            "split": {**DAYS, "train_from": '"2024-01-03"'},
            "activity": {"name": '"click"', "quantiles": "3"},
        },
        "[activity.name]: A column is called 'click' already; choose another name.",
    ),
    "history without ids": (
        {
            "history": {"length": "5"},
            "columns": {"item_id": '{ role = "item", type = "int", model_input = false }'},
        },
        "[history]: Needs ids: give the item column 'item_id' an encoding.",
    ),
    "activity without buckets": (
        {"split": {**DAYS, "train_from": '"2024-01-03"'}, "activity": {"count": '"clicks"'}},
        "[activity.boundaries]: Give either `boundaries` or `quantiles`",
    ),
    "activity within training": (
        {"activity": {"quantiles": "3"}},
        "[activity]: Activity is counted before the training window: set `split.train_from`.",
    ),
    "undeclared position": (
        {"explode": {"shown": '"shown"', "clicked": '"clicked"', "position": '"place"'}},
        "[explode.position]: 'place' is not declared under [columns].",
    ),
    "key of no column": (
        {"tables": {"users": '{ file = "users.csv", key = "uid" }'}},
        "[tables.users.log_key]: Key 'uid' is not a column of the log. Declared: click, item_id, "
        "time_ms, user_id.",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_the_only_one_and_says_where_it_is(changes, message):
    text = spec_text(**changes)
    (line,) = messages(text)
    number, _, rest = line.removeprefix("line ").partition(", ")
    assert message in rest
    named = rest.split("'")[1] if rest.startswith("column '") else rest[1:].split("]")[0]
    # The line has the option, or the section or the column that it is missing from.
    assert any(name in text.splitlines()[int(number) - 1] for name in named.split("."))


def test_every_check_has_its_mistake():
    source = pathlib.Path(spec_checks.__file__)
    reporting = {
        node.lineno
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Yield)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SpecProblem")
    }
    reached = set()

    def trace(frame, event, argument):
        if frame.f_code.co_filename != str(source):
            return None
        if event == "line":
            reached.add(frame.f_lineno)
        return trace

    texts = [spec_text(**changes) for changes, _ in MISTAKES.values()]
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for text in texts:
            with pytest.raises(SpecError):
                parse_spec(text)
    finally:
        sys.settrace(before)
    assert len(reporting) > 40
    assert sorted(reporting - reached) == []
