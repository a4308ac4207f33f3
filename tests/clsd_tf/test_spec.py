from __future__ import annotations

import ast
import pathlib
import sys

import pytest

from clsd_tf import spec_checks
from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.spec import SpecError, parse_spec, read_spec

BASE = {
    "name": '"shop"',
    "split": {"valid_from": '"2024-01-09"', "test_from": '"2024-01-10"'},
    "columns": {
        "user_id": '{ role = "user", type = "int", encoding = "vocabulary" }',
        "item_id": '{ role = "item", type = "int", encoding = "vocabulary" }',
        "click": '{ role = "label", type = "int" }',
        "time_ms": '{ role = "timestamp", type = "int" }',
    },
}


def spec_text(**changes: object) -> str:
    """BASE with sections replaced; columns are added, replaced, or removed with None."""
    columns = {**BASE["columns"], **changes.pop("columns", {})}
    sections = {**BASE, **changes, "columns": {k: v for k, v in columns.items() if v is not None}}
    lines = []
    for key, value in sorted(sections.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {body}" for name, body in value.items())]
        elif value is not None:
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def messages(text: str) -> list[str]:
    """The mistakes of a spec, as shown, without the headline."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, source="shop.toml")
    headline, *lines = str(caught.value).split("\n  ")
    count = len(caught.value.problems)
    noun = "mistake" if count == 1 else "mistakes"
    assert headline == f"shop.toml: {count} {noun} in the spec."
    assert len(lines) == count
    return lines


def feature(body: str) -> dict[str, object]:
    """A change that adds a column `x`."""
    return {"columns": {"x": f"{{ {body} }}"}}


def test_a_good_spec():
    spec = parse_spec(
        spec_text(
            columns={
                "age": '{ type = "float", encoding = "buckets", boundaries = [18, 30.5] }',
                "tags": '{ type = "string", encoding = "hash", num_buckets = 9, max_length = 3 }',
                "seen": '{ type = "int", shares = "item_id", max_length = 5, source = "watched" }',
                "like": '{ role = "satisfaction", type = "int" }',
            }
        )
    )
    assert spec.name == "shop"
    assert [c.name for c in spec.columns] == [*BASE["columns"], "age", "tags", "seen", "like"]
    assert [c.name for c in spec.model_columns] == ["user_id", "item_id", "age", "tags", "seen"]
    assert spec.label.name == "click"
    assert spec.timestamp.unit == "ms"
    assert spec.column("age").boundaries == (18.0, 30.5)
    assert spec.column("seen").source_name == "watched"
    assert spec.owner(spec.column("seen")) is spec.item
    assert spec.group is None
    assert spec.weight is None
    assert [c.name for c in spec.with_role("satisfaction")] == ["like"]
    with pytest.raises(KeyError, match="nothing"):
        spec.column("nothing")


def test_derived_columns():
    text = spec_text(
        history={"name": '"clicked"', "length": "7"},
        activity={"count": '"clicks"', "boundaries": "[1, 4]"},
        split={**BASE["split"], "train_from": '"2024-01-03"'},
    )
    spec = parse_spec(text)
    history, group = spec.column("clicked"), spec.column("activity")
    assert history.derived
    assert history.shares == "item_id"
    assert history.type == "int"
    assert history.max_length == 7
    assert history in spec.model_columns
    assert spec.group == group
    assert group.derived
    assert group.boundaries == (1.0, 4.0)
    assert group.default == 0
    assert group not in spec.model_columns
    assert group in spec.encoded_columns
    assert [c.name for c in spec.source_columns] == list(BASE["columns"])


def test_a_spec_survives_serialisation():
    spec = parse_spec(spec_text(history={"length": "7"}))
    assert ClickLogSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"


def test_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(spec_text(), encoding="utf-8")
    assert read_spec(path) == parse_spec(spec_text())
    path.write_text("name = 1\n", encoding="utf-8")
    with pytest.raises(SpecError, match="mine.toml: 2 mistakes"):
        read_spec(str(path))
    with pytest.raises(FileNotFoundError):
        read_spec(tmp_path / "none.toml")


def test_all_mistakes_at_once_in_the_order_of_lines():
    text = """name = "shop"
[split]
day_column = "date"
valid_from = 20240109
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "float", encoding = "vocabulary" }
time_ms = { role = "timestamp", type = "int" }
age = { type = "int", encoding = "buckets", num_buckets = 3 }
[columns.scene]
type = "int"
"""
    assert messages(text) == [
        'line 2, [split.test_from]: by = "day" needs the first day of it, in the values of the day '
        "column.",
        "line 3, [split.day_column]: 'date' is not declared under [columns]; role 'ignore' will "
        "do.",
        "line 4, [split.valid_from]: Must be like '2022-05-04', as the days are. "
        "Received: 20240109.",
        "line 5, [columns]: A click log needs a column with role 'label'.",
        "line 7, column 'item_id', `type`: encoding = \"vocabulary\" needs type 'int' or 'string'.",
        "line 9, column 'age', `num_buckets`: `num_buckets` belongs to encoding = \"hash\". "
        'Received: encoding = "buckets", whose options are boundaries, quantiles.',
        "line 9, column 'age', `boundaries`: Give either `boundaries` or `quantiles`, not both and "
        "not neither.",
        "line 10, column 'scene', `encoding`: A column with role 'feature' needs one of: "
        "vocabulary, hash, identity, buckets, numeric.",
    ]


def test_mistakes_of_spelling_and_type_at_once():
    text = spec_text(
        colums={"a": "1"},
        split={"valid_form": '"2024-01-09"', "by": '"week"'},
        columns={
            "x": '{ type = "int", encodign = "hash" }',
            "y": '{ type = "integer" }',
            "z": "3",
            "w": '{ role = "feature" }',
            "v": '{ type = "int", encoding = "vocabulary", dim = 0 }',
        },
    )
    assert messages(text) == [
        "line 3, [split.valid_form]: Unknown option `valid_form`. Did you mean `valid_from`? "
        "Allowed: by, day_column, test_fraction, test_from, train_from, utc_offset, "
        "valid_fraction, valid_from.",
        "line 4, [split.by]: Input should be 'day', 'time' or 'user'. Received: 'week'.",
        "line 10, column 'x', `encodign`: Unknown option `encodign`. Did you mean `encoding`? "
        "Allowed: boundaries, default, dim, encoding, keep, max_length, max_size, min_count, "
        "model_input, num_buckets, num_oov, num_values, positive_from, quantiles, role, scaling, "
        "separator, shares, source, table, type, unit.",
        "line 11, column 'y', `type`: Input should be 'string', 'int' or 'float'. "
        "Received: 'integer'.",
        "line 12, column 'z': Must be a table. Received: 3.",
        "line 13, column 'w', `type`: Field required.",
        "line 14, column 'v', `dim`: Input should be greater than or equal to 1. Received: 0.",
        "line 15, [colums]: Unknown option `colums`. Did you mean `columns`? Allowed: activity, "
        "columns, explode, history, input, name, split, tables.",
    ]


def test_lines_are_found_in_every_way_of_writing_a_table():
    text = """name = "shop"
columns.click = { role = "label", type = "string" }
columns.time_ms.role = "timestamp"
columns.time_ms.type = "float"
["columns".'user id']
role = "user"
type = "float"  # type = "int"
encoding = "vocabulary"
[split]
by = "time"
"""
    assert [line.split(": ")[0] for line in messages(text)] == [
        "[columns]",
        "line 2, column 'click', `type`",
        "line 4, column 'time_ms', `type`",
        "line 7, column 'user id', `type`",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "Not valid TOML: "),
        ("name = 'a'\nname = 'b'", "Not valid TOML: "),
        ("[columns]\n", 'Give the log a name: name = "my_log".'),
        ("name = 'a'\ncolumns = 3\n", "line 2, [columns]: A spec needs a table [columns]."),
        ("name = 'a'\n", "[columns]: A spec needs a table [columns]."),
        ("name = 'a'\nsplit = 3\n[columns]", "line 2, [split]: Must be a table. Received: 3."),
        (
            "name = 'a'\n[columns]\n[tables.users]\nfile = 'u.csv'\n",
            "line 3, [tables.users.key]: Field required.",
        ),
        (
            "name = 'a'\n[columns]\nx = { type = 'int', name = 'y' }",
            "line 3, column 'x', `name`: Unknown option `name`.",
        ),
        (
            "name = 'a'\n[columns]\nx = { type = 'int', derived = true }",
            "line 3, column 'x', `derived`: Unknown option `derived`.",
        ),
    ],
)
def test_no_spec_at_all(text, message):
    assert any(message in line for line in messages(text))


DAYS = BASE["split"]
USERS = {"users": '{ file = "users.csv", key = "user_id" }'}
# What is changed in a good spec -> the one mistake that it then has.
MISTAKES = {
    "reserved name": (
        {"columns": {"_x": '{ type = "int", encoding = "vocabulary" }'}},
        "column '_x', `name`: Names that begin with `_` are reserved.",
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
    "two labels": (
        feature('role = "label", type = "int"'),
        "column 'x', `role`: At most one column has role 'label'. Received: click, x.",
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


def test_keep_and_separator_come_with_a_list():
    spec = parse_spec(
        spec_text(
            **feature(
                'type = "int", encoding = "vocabulary", max_length = 3, keep = "first", '
                'separator = "|"'
            )
        )
    )
    x = spec.column("x")
    assert isinstance(x, ColumnSpec)
    assert x.is_list
    assert (x.keep, x.separator) == ("first", "|")


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
