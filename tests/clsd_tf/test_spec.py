from __future__ import annotations

import pytest

from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.spec import SpecError, parse_spec, read_spec
from tests.clsd_tf.spec_texts import BASE, feature, messages, spec_text


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
        "Allowed: boundaries, default, describes, dim, encoding, keep, max_length, max_size, "
        "min_count, model_input, num_buckets, num_oov, num_values, positive_from, quantiles, role, "
        "scaling, separator, shares, source, table, type, unit.",
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
