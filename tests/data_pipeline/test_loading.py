"""Logs of every format become the same table; bad rows, duplicates and mistakes are told."""

from __future__ import annotations

import random

import pyarrow.parquet as pq
import pytest

from clsd_tf.spec import parse_spec
from data_pipeline.quarantine import BadRowsError
from tests.data_pipeline.raw_logs import (
    COLUMNS,
    START,
    load,
    make_spec,
    quarantine,
    row,
    rows_of,
    write_csv,
    write_json_lines,
    write_parquet,
)

FEATURES = """
city = { type = "string", encoding = "vocabulary" }
age = { type = "float", encoding = "buckets", quantiles = 4 }
tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 3 }
bid = { role = "weight", type = "float" }
liked = { role = "satisfaction", type = "int" }
note = { role = "ignore", type = "string" }
"""
RAW = [
    row(3, user_id=29, click=1, city="Köln", age=0.5, tags=[4, 5], bid=1.0, liked=1, note="x"),
    row(1, user_id=-3, click=0, city=None, age=None, tags=None, bid=0.0, liked=None, note=None),
    row(2, user_id=29, click=1, city='a "b", c', age=18.0, tags=[6], bid=2.5, liked=0, note="y"),
]
EXPECTED = [
    {"user_id": -3, "item_id": "i1", "click": 0, "time": START + 1, "city": None, "age": None}
    | {"tags": None, "bid": 0.0, "liked": None},
    {"user_id": 29, "item_id": "i2", "click": 1, "time": START + 2, "city": 'a "b", c'}
    | {"age": 18.0, "tags": [6], "bid": 2.5, "liked": 0},
    {"user_id": 29, "item_id": "i3", "click": 1, "time": START + 3, "city": "Köln", "age": 0.5}
    | {"tags": [4, 5], "bid": 1.0, "liked": 1},
]


def with_text_lists(rows: list[dict]) -> list[dict]:
    """Rows whose lists are strings."""
    return [r | {"tags": r["tags"] and " ".join(map(str, r["tags"]))} for r in rows]


WRITERS = {
    "log.csv": lambda path, rows: write_csv(path, with_text_lists(rows)),
    "log.csv.gz": lambda path, rows: write_csv(path, with_text_lists(rows)),
    "log.parquet": write_parquet,
    "log.jsonl": write_json_lines,
    "log.ndjson.gz": write_json_lines,
    "text_lists.parquet": lambda path, rows: write_parquet(path, with_text_lists(rows)),
    "text_lists.json": lambda path, rows: write_json_lines(path, with_text_lists(rows)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_table(tmp_path, name):
    loaded = load(tmp_path, make_spec(FEATURES), WRITERS[name](tmp_path / name, RAW))
    expected = [
        {"_row": i, "_time": values["time"] * 1_000_000, "_day": "2022-04-15"} | values
        for i, values in enumerate(EXPECTED)
    ]
    assert rows_of(loaded) == expected
    assert (loaded.rows_read, loaded.duplicates, loaded.quarantined) == (3, 0, {})
    assert loaded.source == [{"file": name, "bytes": (tmp_path / name).stat().st_size}]
    assert quarantine(tmp_path) == []


def random_rows(count: int, seed: int) -> list[dict]:
    """Rows with ties of time, duplicates, and some bad labels."""
    rng = random.Random(seed)
    return [
        row(rng.randrange(40), user_id=rng.randrange(5), time=START + rng.randrange(20))
        | {"click": rng.choice([0, 1, 1, "x"]) if rng.random() < 0.1 else rng.randrange(2)}
        for _ in range(count)
    ]


def test_the_order_is_the_same_with_any_number_of_threads(tmp_path):
    files = [write_csv(tmp_path / f"part-{i}.csv", random_rows(30_000, seed=i)) for i in range(3)]
    spec = make_spec()
    results = [
        load(tmp_path, spec, tmp_path / "part-*.csv", threads=threads, max_bad_fraction=0.1)
        for threads in (1, 2)
    ]
    one, two = (rows_of(loaded) for loaded in results)
    assert one == two
    assert results[0].duplicates == results[1].duplicates > 0

    # The same in plain Python.
    seen, expected = set(), []
    for i in range(len(files)):
        for number, values in enumerate(random_rows(30_000, seed=i)):
            key = tuple(values.values())
            if values["click"] != "x" and key not in seen:
                seen.add(key)
                expected.append((values["time"], i, number, values))
    expected.sort(key=lambda entry: entry[:3])
    assert [{name: r[name] for name in row()} for r in one] == [e[3] for e in expected]
    assert [r["_row"] for r in one] == list(range(len(expected)))
    assert results[0].rows_read == 90_000
    bad = sum(results[0].quarantined.values())
    assert bad + results[0].duplicates + len(expected) == 90_000


class TestQuarantine:
    def test_holds_exactly_the_bad_rows_as_they_were_read(self, tmp_path):
        rows = [
            row(0),
            row(1, click=2),
            row(2, user_id="abc", click=""),
            row(3),
            row(4, time=-5),
        ]
        path = write_csv(tmp_path / "log.csv", rows)
        loaded = load(tmp_path, make_spec(), path, max_bad_fraction=0.6)
        assert [r["item_id"] for r in rows_of(loaded)] == ["i0", "i3"]
        reasons = {
            2: "click: not 0 or 1",
            3: "user_id: not an integer; click: missing",
            5: "time: before 1990 or after 2099",
        }
        text = [{k: str(v) or None for k, v in rows[i - 1].items()} for i in reasons]
        where = [
            {"reason": reason, "file": "log.csv", "row": number, "text": None}
            for number, reason in reasons.items()
        ]
        assert quarantine(tmp_path) == [a | b for a, b in zip(text, where, strict=True)]
        assert loaded.quarantined == dict.fromkeys(sorted(reasons.values()), 1)

    @pytest.mark.parametrize("label", [0.5, 1e19, -1e300])
    def test_a_label_that_no_integer_holds(self, tmp_path, label):
        base = COLUMNS.replace('role = "label", type = "int"', 'role = "label", type = "float"')
        path = write_csv(tmp_path / "log.csv", [row(0, click=1.0), row(1, click=label)])
        loaded = load(tmp_path, make_spec(base=base), path, max_bad_fraction=0.5)
        assert [r["click"] for r in rows_of(loaded)] == [1]
        assert loaded.quarantined == {"click: not 0 or 1": 1}

    def test_too_many_bad_rows_stop_the_work(self, tmp_path):
        rows = [row(0), *(row(i, click="?") for i in range(1, 4)), row(4, user_id="")]
        path = write_csv(tmp_path / "log.csv", rows)
        with pytest.raises(BadRowsError) as error:
            load(tmp_path, make_spec(), path)
        kept = tmp_path / "out.quarantine.parquet"
        message = str(error.value)
        assert "4 of 5 rows of the log are bad (80.0%)" in message
        assert "'click: not an integer' (3), 'user_id: missing' (1)" in message
        assert str(kept) in message
        assert pq.read_table(kept).column("row").to_pylist() == [2, 3, 4, 5]
        assert not (tmp_path / "out" / "quarantine").exists()

    def test_a_share_at_the_limit_is_allowed(self, tmp_path):
        path = write_csv(tmp_path / "log.csv", [row(0), row(1, click="?")])
        assert load(tmp_path, make_spec(), path, max_bad_fraction=0.5).quarantined

    def test_raw_columns_may_have_the_names_of_its_own(self, tmp_path):
        rows = [row(0, file="e"), row(1, click=5, file="f")]
        path = write_parquet(tmp_path / "log.parquet", rows)
        load(tmp_path, make_spec(), path, max_bad_fraction=0.5)
        (bad,) = quarantine(tmp_path)
        assert (bad["file"], bad["file_"], bad["click"]) == ("log.parquet", "f", "5")


class TestDuplicates:
    COLUMNS = (
        'city = { type = "string", encoding = "vocabulary" }\nn = { role = "ignore", type = "int" }'
    )

    def test_equal_rows_are_dropped_and_the_first_is_kept(self, tmp_path):
        rows = [row(1, city="a", n=1), row(0, city=None, n=1), row(1, city="a", n=1)]
        rows += [row(0, city=None, n=1), row(1, city="b", n=1), row(1, city="a", n=2)]
        path = write_csv(tmp_path / "log.csv", rows)
        loaded = load(tmp_path, make_spec(self.COLUMNS), path)
        assert loaded.duplicates == 2
        received = [(r["item_id"], r["city"]) for r in rows_of(loaded)]
        assert received == [("i0", None), ("i1", "a"), ("i1", "b"), ("i1", "a")]

    def test_a_column_that_the_spec_does_not_name_does_not_count(self, tmp_path):
        path = write_csv(tmp_path / "log.csv", [row(0, line=1), row(0, line=2)])
        assert load(tmp_path, make_spec(), path).duplicates == 1

    def test_values_are_compared_and_not_their_text(self, tmp_path):
        path = write_csv(tmp_path / "log.csv", [row(0, user_id="7"), row(0, user_id="7.0")])
        assert load(tmp_path, make_spec(), path).duplicates == 1


class TestDays:
    BY_DAY = '[split]\nday_column = "date"\nvalid_from = {}\ntest_from = {}'

    def test_the_day_column_is_kept_as_text_and_bounds_are_inclusive(self, tmp_path):
        spec = make_spec('date = { role = "ignore", type = "int" }', self.BY_DAY.format(10, 11))
        path = write_csv(tmp_path / "log.csv", [row(i, date=f"{i}.0") for i in range(8, 12)])
        loaded = load(tmp_path, spec, path, first_day="9", last_day=10)
        assert [(r["_row"], r["_day"]) for r in rows_of(loaded)] == [(0, "9"), (1, "10")]
        assert "date" not in rows_of(loaded)[0]

    def test_days_that_are_strings_are_compared_as_strings(self, tmp_path):
        sections = self.BY_DAY.format('"2022-05-02"', '"2022-05-03"')
        spec = make_spec('date = { role = "ignore", type = "string" }', sections)
        rows = [row(i, date=f"2022-05-0{i}") for i in range(1, 4)]
        path = write_csv(tmp_path / "log.csv", rows)
        loaded = load(tmp_path, spec, path, first_day="2022-05-02")
        assert [r["_day"] for r in rows_of(loaded)] == ["2022-05-02", "2022-05-03"]

    @pytest.mark.parametrize(
        ("offset", "day"), [(0.0, "2022-04-15"), (14.0, "2022-04-15"), (-5.5, "2022-04-14")]
    )
    def test_without_a_day_column_it_is_the_date_at_the_offset(self, tmp_path, offset, day):
        # START is 05:20 UTC.
        spec = make_spec(sections=f'[split]\nby = "time"\nutc_offset = {offset}')
        loaded = load(tmp_path, spec, write_csv(tmp_path / "log.csv", [row(0)]))
        assert rows_of(loaded)[0]["_day"] == day

    def test_a_missing_day_makes_a_bad_row(self, tmp_path):
        spec = make_spec('date = { role = "ignore", type = "int" }', self.BY_DAY.format(10, 11))
        path = write_csv(tmp_path / "log.csv", [row(0, date=9), row(1, date="")])
        loaded = load(tmp_path, spec, path, max_bad_fraction=0.5)
        assert loaded.quarantined == {"date: missing": 1}

    def test_mistaken_bounds(self, tmp_path):
        spec = make_spec('date = { role = "ignore", type = "int" }', self.BY_DAY.format(10, 11))
        path = write_csv(tmp_path / "log.csv", [row(0, date=9)])
        with pytest.raises(ValueError, match="`first_day` must be a number.*'May'"):
            load(tmp_path, spec, path, first_day="May")
        with pytest.raises(ValueError, match="No impression is left of 1 rows"):
            load(tmp_path, spec, path, first_day=10)


class TestSideTables:
    SECTIONS = '[split]\nby = "time"\n[tables.user]\nfile = "users.csv*"\nkey = "user_id"'
    COLUMNS = """
    age = { table = "user", type = "float", encoding = "buckets", quantiles = 4 }
    seen = { table = "user", source = "s", type = "int", max_length = 2, shares = "user_id" }
    """

    def spec(self, log_key: str = ""):
        return make_spec(self.COLUMNS, self.SECTIONS + log_key)

    def test_columns_are_joined_by_the_canonical_key(self, tmp_path):
        users = [{"user_id": "29.0", "age": 4, "s": "1 2 3"}, {"user_id": "8", "age": "", "s": ""}]
        write_csv(tmp_path / "users.csv.gz", users)
        rows = [row(0, user_id=29), row(1, user_id=8), row(2, user_id=5)]
        write_parquet(tmp_path / "log.parquet", rows)
        loaded = load(tmp_path, self.spec(), tmp_path / "log.parquet")
        received = [(r["age"], r["seen"]) for r in rows_of(loaded)]
        assert received == [(4.0, [1, 2, 3]), (None, None), (None, None)]
        assert [source["file"] for source in loaded.source] == ["log.parquet", "users.csv.gz"]

    def test_the_log_may_call_the_key_otherwise(self, tmp_path):
        write_csv(tmp_path / "users.csv", [{"user_id": 4, "age": 1.5, "s": ""}])
        write_csv(tmp_path / "log.csv", [row(0, host="4.0"), row(1, host="")])
        spec = make_spec(
            self.COLUMNS + 'h = { role = "ignore", source = "host", type = "int" }',
            self.SECTIONS + '\nlog_key = "host"',
        )
        loaded = load(tmp_path, spec, tmp_path / "log.csv")
        assert [r["age"] for r in rows_of(loaded)] == [1.5, None]

    def test_a_key_that_stands_twice_is_an_error(self, tmp_path):
        users = [{"user_id": key, "age": 1, "s": ""} for key in ("4", "29", "29.0")]
        write_csv(tmp_path / "users.csv", users)
        path = write_csv(tmp_path / "log.csv", [row(0)])
        with pytest.raises(ValueError, match="'user' has several rows.*2 rows with user_id = 29"):
            load(tmp_path, self.spec(), path)

    def test_missing_files_and_columns_are_errors(self, tmp_path):
        path = write_csv(tmp_path / "log.csv", [row(0)])
        with pytest.raises(
            FileNotFoundError, match="Side table 'user': no file .*Received: .*log.csv"
        ):
            load(tmp_path, self.spec(), path)
        write_csv(tmp_path / "users.csv", [{"userid": 1, "age": 1}])
        expected = (
            r"File users.csv of side table 'user' lacks.*'s', 'user_id' \(did you mean 'userid'"
        )
        with pytest.raises(ValueError, match=expected):
            load(tmp_path, self.spec(), path)

    def test_bad_rows_of_a_side_table_have_a_quarantine_of_their_own(self, tmp_path):
        users = [{"user_id": 4, "age": 1, "s": ""}, {"user_id": 7, "age": "old", "s": ""}]
        write_csv(tmp_path / "users.csv", users)
        path = write_csv(tmp_path / "log.csv", [row(0)])
        loaded = load(tmp_path, self.spec(), path, max_bad_fraction=0.5)
        assert loaded.quarantined == {"user: age: not a finite number": 1}
        assert [r["age"] for r in quarantine(tmp_path, "user")] == ["old"]
        assert rows_of(loaded)[0]["age"] is None
        with pytest.raises(BadRowsError, match="1 of 2 rows of side table 'user' are bad"):
            load(tmp_path, self.spec(), path, max_bad_fraction=0.4)


class TestExplode:
    SECTIONS = """
    [split]
    by = "time"
    [explode]
    shown = "shown"
    clicked = "clicked"
    position = "position"
    separator = ","
    """
    POSITION = 'position = { type = "int", encoding = "identity", num_values = 9 }'
    ROWS = (
        {"user_id": 2, "time": START + 1, "shown": ["b", "a"], "clicked": ["a"]},
        {"user_id": 1, "time": START, "shown": ["a", "c", "b"], "clicked": None},
        {"user_id": 3, "time": START + 2, "shown": ["a"], "clicked": ["z", "a"]},
        {"user_id": 3, "time": START + 3, "shown": None, "clicked": ["a"]},
    )

    def write(self, tmp_path, name):
        if name.endswith(".parquet"):
            return write_parquet(tmp_path / name, self.ROWS)
        if name.endswith(".jsonl"):
            return write_json_lines(tmp_path / name, self.ROWS)
        lists = ("shown", "clicked")
        rows = [r | {k: ",".join(r[k] or []) for k in lists} for r in self.ROWS]
        return write_csv(tmp_path / name, rows)

    @pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl"])
    def test_one_impression_for_each_shown_item(self, tmp_path, name):
        spec = make_spec(self.POSITION, self.SECTIONS)
        loaded = load(tmp_path, spec, self.write(tmp_path, name), max_bad_fraction=0.5)
        columns = ("user_id", "item_id", "click", "position", "_row")
        assert [tuple(r[c] for c in columns) for r in rows_of(loaded)] == [
            (1, "a", 0, 0, 0),
            (1, "c", 0, 1, 1),
            (1, "b", 0, 2, 2),
            (2, "b", 0, 0, 3),
            (2, "a", 1, 1, 4),
        ]
        assert loaded.rows_read == 4
        assert [r["reason"] for r in quarantine(tmp_path)] == [
            "clicked: not among shown",
            "shown: missing",
        ]

    def test_items_of_side_tables_are_joined_to_the_shown_ones(self, tmp_path):
        (tmp_path / "items.csv").write_text("item_id,price\na,1.5\nb,2.5\n")
        tables = '[tables.item]\nfile = "items.csv"\nkey = "item_id"\n'
        column = 'price = { table = "item", type = "float", encoding = "numeric" }'
        spec = make_spec(column + "\n" + self.POSITION, self.SECTIONS + tables)
        loaded = load(tmp_path, spec, self.write(tmp_path, "log.csv"), max_bad_fraction=0.5)
        assert [r["price"] for r in rows_of(loaded)] == [1.5, None, 2.5, 2.5, 1.5]


KUAIRAND = """
name = "kuairand"
[input]
files = "log_standard_4_22_to_5_08_pure.csv*"
[split]
day_column = "date"
valid_from = 20220504
test_from = 20220505
[tables.history]
file = "user_history_before_4_25_pure.csv*"
key = "user_id"
[tables.video]
file = "video_features_basic_pure.csv*"
key = "video_id"
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
video_id = { role = "item", type = "int", encoding = "vocabulary" }
time_ms = { role = "timestamp", type = "int" }
is_click = { role = "label", type = "int" }
date = { role = "ignore", type = "int" }
long_view = { role = "satisfaction", type = "int" }
play_time_ms = { role = "ignore", type = "int" }
hourmin = { role = "ignore", type = "int" }
is_follow = { role = "ignore", type = "int" }
comment_stay_time = { role = "ignore", type = "int" }
history_len = { table = "history", type = "int", encoding = "hash", num_buckets = 9 }
watch_seq = { table = "history", type = "int", shares = "video_id", max_length = 50 }
music_type = { table = "video", type = "int", encoding = "vocabulary" }
"""


def test_a_real_log_loads_whole(tmp_path, kuairand_directory):
    loaded = load(tmp_path, parse_spec(KUAIRAND), kuairand_directory / "data")
    assert loaded.rows_read == 180_384
    assert (loaded.duplicates, loaded.quarantined) == (0, {})
    table = loaded.impressions.order_by("_row").to_pyarrow()
    assert table.num_rows == 180_384
    assert table.column("_row").to_pylist() == list(range(180_384))
    times = table.column("_time").to_pylist()
    assert times == sorted(times)
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["user_id"], first["video_id"], first["is_click"]) == (712, 5239, 1)
    assert (first["_day"], first["_time"]) == ("20220425", 1_650_812_741_436_000)
    days = table.column("_day").unique().to_pylist()
    assert sorted(days) == [
        *map(str, range(20220425, 20220431)),
        *map(str, range(20220501, 20220506)),
    ]


class TestMistakes:
    def test_no_rows(self, tmp_path):
        (tmp_path / "log.csv").write_text("user_id,item_id,click,time\n")
        with pytest.raises(ValueError, match="The log has no rows"):
            load(tmp_path, make_spec(), tmp_path / "log.csv")

    def test_only_bad_rows(self, tmp_path):
        path = write_csv(tmp_path / "log.csv", [row(0, click=7)])
        with pytest.raises(ValueError, match="No impression is left"):
            load(tmp_path, make_spec(), path, max_bad_fraction=1.0)

    def test_all_missing_columns_are_told_at_once(self, tmp_path):
        rows = [{"userid": 1, "item_id": 2, "label": 0, "time": START}]
        path = write_csv(tmp_path / "log.csv", rows)
        expected = (
            r"lacks columns that the spec names: 'click', 'user_id' \(did you mean 'userid'\?\)"
        )
        with pytest.raises(ValueError, match=expected):
            load(tmp_path, make_spec(), path)


def test_steps_are_told_and_the_engine_is_left_with_the_impressions_alone(tmp_path):
    steps = []
    path = write_csv(tmp_path / "log.csv", [row(0)])
    loaded = load(tmp_path, make_spec(), path, progress=steps.append)
    assert steps == ["Reading the log", "Dropping duplicates", "Ordering impressions"]
    engine = loaded.impressions.get_backend()
    names = engine.raw_sql("SELECT table_name FROM information_schema.tables").fetchall()
    assert names == [("impressions",)]
