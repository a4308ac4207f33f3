"""Whatever a log holds: a right table and counts that add up, or one sentence; never a traceback.

`CLSD_FUZZ=8` tries eight times as many files as CI does, logs of 2,500 rows, and prints how many.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import random
import shutil
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clsd_tf.spec import SpecError, parse_spec
from data_pipeline.cli import sentence
from data_pipeline.engines import open_engine
from data_pipeline.loading import Loaded, load_impressions
from tests.data_pipeline import bad_rows
from tests.data_pipeline.raw_logs import START, load, make_spec, row, rows_of, write_csv

FUZZ = int(os.environ.get("CLSD_FUZZ", "1"))
SHORT = st.lists(bad_rows.rows, min_size=60, max_size=90)
LONG = st.integers(0, 2**32).map(lambda seed: bad_rows.random_log(seed, 2_500))
LOGS = SHORT if FUZZ == 1 else LONG


def fuzzed(examples: int) -> settings:
    """Examples are the same in each run; the long form draws others, and more of them."""
    return settings(
        max_examples=examples * FUZZ,
        derandomize=FUZZ == 1,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # a log that fails is told as it is: to shrink it takes minutes
        suppress_health_check=list(HealthCheck),
    )


class Tries:
    """An engine and a directory that many logs share; counts what was tried."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.engine = open_engine(directory / "engine", threads=1)
        self.tried = {"rows": 0, "bad rows": 0, "files": 0, "refused": 0}

    def load(self, name: str, content: bytes, spec, **options) -> Loaded:
        """Loads a file; bad rows never stop it."""
        shutil.rmtree(self.directory / "out", ignore_errors=True)
        (self.directory / name).write_bytes(content)
        self.tried["files"] += 1
        options = {"max_bad_fraction": 1.0, **options}
        return load_impressions(
            self.engine, spec, self.directory / name, self.directory / "out", **options
        )

    def load_or_say(self, name: str, content: bytes, spec, **options) -> Loaded | str:
        """What comes of a file, or what the user is told."""
        try:
            return self.load(name, content, spec, **options)
        except Exception as error:
            said = sentence(error)
            assert said is not None, f"a traceback: {error!r}"
            assert said.rstrip().endswith((".", ")")), said
            assert not any(mark in said for mark in ("LINE 1", "Traceback", "INTERNAL")), said
            self.tried["refused"] += 1
            return said


@pytest.fixture(scope="module")
def tries(tmp_path_factory):
    made = Tries(tmp_path_factory.mktemp("tries"))
    yield made
    made.engine.disconnect()
    if FUZZ > 1:
        print(f"\ntried: {made.tried}")


def as_csv(log: list[dict[str, str]]) -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.DictWriter(text, list(log[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(log)
    return text.getvalue().encode()


def as_json_lines(log: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(values) + "\n" for values in log).encode()


def as_parquet(log: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(log), buffer)
    return buffer.getvalue()


FORMATS = {
    "log.csv": as_csv,
    "log.csv.gz": lambda log: gzip.compress(as_csv(log), 1),
    "log.jsonl": as_json_lines,
    "log.parquet": as_parquet,
}


def reconciles(loaded: Loaded) -> None:
    """Counts add up, by what the engine holds and not by what the pipeline says."""
    kept = loaded.impressions.count().to_pyarrow().as_py()
    counts = loaded.counts
    assert counts.kept == kept
    assert counts.rows_read == kept + counts.duplicates + sum(loaded.quarantined.values())
    assert counts.bad_rows == sum(loaded.quarantined.values())


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_rows_mean_what_plain_python_says(tries, name):
    @fuzzed(2)
    @given(LOGS)
    def check(log):
        expected = bad_rows.expected_of(log)
        loaded = tries.load_or_say(name, FORMATS[name](log), bad_rows.SPEC)
        tries.tried["rows"] += len(log)
        tries.tried["bad rows"] += expected.quarantined.total()
        if not expected.impressions:
            assert "No impression is left" in loaded
            return
        assert not isinstance(loaded, str), loaded
        assert loaded.quarantined == dict(expected.quarantined)
        assert loaded.duplicates == expected.duplicates
        assert [bad_rows.typed(r) for r in rows_of(loaded)] == expected.impressions
        reconciles(loaded)

    check()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes as a bad disk, a broken copy, or another program may leave them."""
    place = rng.randrange(len(content))
    part = rng.randrange(1, 40)
    kind = rng.randrange(9)
    if kind == 0:
        return content[:place]
    if kind == 1:
        flipped = content[place] ^ (1 << rng.randrange(8))
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + content[place + part :]
    if kind == 3:
        return content[:place] + content[place : place + part] + content[place:]
    if kind == 4:
        return content[:place] + b"\0" * part + content[place:]
    if kind == 5:
        return content[:place] + rng.randbytes(part) + content[place + part :]
    if kind == 6:
        return (
            content[:place] + rng.choice([b'"', b"\r", b"\n", b"\xff\xfe", b","]) + content[place:]
        )
    if kind == 7:
        return content + content
    return rng.choice([b"", b"\n", b"\0" * 100, content.decode("latin-1").encode("utf-16")])


GOOD = [
    {"user_id": str(i % 5), "item_id": f"i{i}", "click": str(i % 2), "time": str(START + i)}
    | {"age": str(i), "tags": "1 2"}
    for i in range(40)
]


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_or_their_rows_add_up(tries, name):
    good = FORMATS[name](GOOD)

    @fuzzed(3)
    @given(st.integers(0, 2**32))
    def check(seed):
        loaded = tries.load_or_say(name, damaged(good, random.Random(seed)), bad_rows.SPEC)
        if not isinstance(loaded, str):
            reconciles(loaded)

    check()


def test_a_file_that_is_cut_keeps_what_was_before(tries):
    content = as_csv(GOOD)
    expected = [bad_rows.typed(r) for r in rows_of(tries.load("log.csv", content, bad_rows.SPEC))]
    cut = content[: content.index(b'"i30"')]
    loaded = tries.load("log.csv", cut, bad_rows.SPEC)
    assert [bad_rows.typed(r) for r in rows_of(loaded)] == expected[:30]
    assert loaded.counts.bad_rows == 1


SPEC_TEXT = """
name = "small"
[split]
by = "time"
valid_fraction = 0.2
[history]
length = 3
[tables.user]
file = "users.csv"
key = "user_id"
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary", min_count = 2 }
item_id = { role = "item", type = "string", encoding = "vocabulary", max_size = 9 }
age = { type = "float", encoding = "buckets", boundaries = [1.0, 2.0] }
tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 3 }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "int" }
"""
WORDS = [
    *("nan", "inf", "-1", "0", "1e400", "9" * 40, "9" * 5000, "true", "[]", "{}", '""', '"x"'),
    *("[[1]]", "1979-05-27", "'../../x'", '"/etc/passwd"', '"a\\u0000b"', "{ role = 'label' }"),
    *("[" * 3000, "\x00", "\ufeff", "=", "\n[columns]\n", '"name" = 1', "role", "type", "[split]"),
]


def test_a_mistaken_spec_is_told_in_sentences():
    assert parse_spec(SPEC_TEXT)

    @fuzzed(150)
    @given(st.integers(0, 2**32))
    def check(seed):
        rng = random.Random(seed)
        text = SPEC_TEXT
        for _ in range(rng.randrange(1, 4)):
            tokens = text.split(" ")
            place = rng.randrange(len(tokens))
            kind = rng.randrange(4)
            if kind == 0:
                tokens[place] = rng.choice(WORDS)
            elif kind == 1:
                tokens.insert(place, rng.choice(tokens))
            elif kind == 2:
                del tokens[place]
            text = " ".join(tokens)
            if kind == 3:
                text = damaged(text.encode(), rng).decode("utf-8", "replace") or text
        try:
            spec = parse_spec(text)
        except SpecError as error:
            assert error.problems
            return
        assert tomllib.loads(text)["name"] == spec.name

    check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"users.csv"', '"../users.csv"'), "[tables.user.file]: Must be a path below"),
        (('"users.csv"', '"/etc/passwd"'), "[tables.user.file]: Must be a path below"),
        (("[tables.user]", '[tables."../x"]'), "A name must be no path"),
        (("age =", '"../../age" ='), "A name must be no path"),
        (("age =", '"" ='), "A name must not be empty"),
        (("age =", '"a\\u0000b" ='), "A name must be printable"),
        (("age =", "Click ="), "must differ by more than case. Received also: 'Click'"),
        (("[1.0, 2.0]", "[1.0, inf]"), "must be finite numbers"),
        (("num_buckets = 9", "num_buckets = 99999999999999999999"), "less than or equal to"),
        (("length = 3\n", "length = 1000000\n"), "less than or equal to 65536"),
    ],
)
def test_names_and_paths_of_a_spec_cannot_leave_their_places(change, message):
    with pytest.raises(SpecError) as error:
        parse_spec(SPEC_TEXT.replace(*change, 1))
    assert message in str(error.value)


class TestNamedCases:
    """What logs were seen to hold, or surely will."""

    def one(self, tries, name: str, content: bytes, spec=None, **options) -> Loaded:
        loaded = tries.load(name, content, spec or make_spec(), **options)
        reconciles(loaded)
        return loaded

    @pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
    def test_columns_with_names_that_the_reader_uses(self, tries, name):
        names = ["index", "first", "rowid", "place", "skipped", "path", "rows", "column0"]
        columns = "\n".join(f'{n} = {{ type = "int", encoding = "vocabulary" }}' for n in names)
        log = [{k: str(v) for k, v in row(i, **dict.fromkeys(names, i)).items()} for i in (1, 2)]
        content = FORMATS[name](log) + (b"bad\n" if name == "log.csv" else b"")
        loaded = self.one(tries, name, content, make_spec(columns))
        assert [r["rowid"] for r in rows_of(loaded)] == [1, 2]
        assert loaded.counts.bad_rows == (name == "log.csv")

    def test_names_that_cannot_be_told_apart(self, tries):
        once = {name: [1] for name in ("user_id", "item_id", "click", "time")}
        for more, message in (
            ("click", "'click' and 'click'"),
            ("Click", "'click' and 'Click'"),
            ("__file", "a name that is taken"),
            ("a\0b", "NUL byte in its name"),
        ):
            csv = f"{','.join(once)},{more}\n1,a,1,{START},0\n".encode()
            assert message in tries.load_or_say("log.csv", csv, make_spec())
            table = pa.table([*once.values(), [0]], [*once, more])
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            assert message in tries.load_or_say("log.parquet", buffer.getvalue(), make_spec())

    def test_lists_and_records_are_no_values(self, tries):
        rows = [row(0), row(1, item_id=[1, 2]), row(2, item_id={"a": 1}), row(3, user_id=[7])]
        content = "".join(json.dumps(values) + "\n" for values in rows).encode()
        loaded = self.one(tries, "log.jsonl", content)
        assert loaded.quarantined == {"item_id: not a string": 2, "user_id: not an integer": 1}
        table = pa.table({k: [v] for k, v in row(0).items()} | {"item_id": [["a", "b"]]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        assert "1 bad rows" in tries.load_or_say("log.parquet", buffer.getvalue(), make_spec())

    def test_bytes_that_are_no_text_and_times_that_nothing_counts(self, tries):
        table = pa.table(
            {
                "user_id": [1, 2, 3],
                "item_id": pa.array([b"a", b"\xff\x00", b"c"]),
                "click": [1, 0, 1],
                "time": pa.array([19_000, 19_000, 2**31 - 1], pa.int32()).cast(pa.date32()),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        loaded = self.one(tries, "log.parquet", buffer.getvalue())
        assert [r["item_id"] for r in rows_of(loaded)] == ["a"]
        assert loaded.quarantined == {
            "item_id: not a string": 1,
            "time: before 1990 or after 2099": 1,
        }

    def test_times_as_text(self, tries):
        base = make_spec().columns[:3]
        assert [c.name for c in base] == ["user_id", "item_id", "click"]
        spec = make_spec(
            base="""
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary" }
click = { role = "label", type = "int" }
time = { role = "timestamp", type = "string" }
"""
        )
        odd = ["infinity", "epoch", "now", "294247-01-10 04:00:54", "0044-03-15 (BC)", "2022-02-30"]
        times = ["2022-05-04T10:00:00Z", *odd, "2022-05-04 08:00:00"]
        content = as_csv([row(i, time=time) for i, time in enumerate(times)])
        loaded = self.one(tries, "log.csv", content, spec)
        assert [r["item_id"] for r in rows_of(loaded)] == ["i7", "i0"]
        assert loaded.counts.bad_rows == len(odd)

    def test_lines_that_are_too_long_and_other_encodings(self, tries):
        log = [row(0), row(1, item_id="x" * 3_000_000), row(2)]
        for name, content in (("log.csv", as_csv(log)), ("log.jsonl", as_json_lines(log))):
            loaded = self.one(tries, name, content)
            assert loaded.quarantined == {"row: too long": 1}
        content = as_csv([row(0), row(1, item_id="Köln")])
        loaded = self.one(tries, "log.csv", content.decode().encode("latin-1"))
        assert loaded.quarantined == {"row: not UTF-8": 1}
        said = tries.load_or_say("log.csv", content.decode().encode("utf-16"), make_spec())
        assert "Cannot read the header" in said

    def test_a_list_of_a_million_elements(self, tries):
        spec = make_spec(
            'tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 3 }'
        )
        table = pa.table({k: [v] for k, v in row(0).items()} | {"tags": [list(range(10**6))]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        (loaded,) = rows_of(self.one(tries, "log.parquet", buffer.getvalue(), spec))
        assert loaded["tags"][-1] == 10**6 - 1

    def test_lists_of_impressions_add_up(self, tries):
        sections = '[split]\nby = "time"\n[explode]\nshown = "shown"\nclicked = "clicked"\n'
        lists = [("a b c", "b"), ("a b c", "b"), ("", "a"), ("a", "z"), ("b b", "b")]
        log = [
            {"user_id": "1", "time": str(START + (i > 1)), "shown": shown, "clicked": clicked}
            for i, (shown, clicked) in enumerate(lists)
        ]
        counts = tries.load("log.csv", as_csv(log), make_spec(sections=sections)).counts
        assert (counts.rows_read, counts.bad_rows, counts.impressions) == (5, 2, 8)
        assert (counts.duplicates, counts.kept, counts.left_out) == (4, 4, 0)

    def test_days_that_are_left_out_are_counted(self, tries):
        log = [row(i, time=START + 86_400 * (i // 2)) for i in range(8)] + [row(0)]
        options = {"first_day": "2022-04-16", "last_day": "2022-04-17"}
        counts = tries.load("log.csv", as_csv(log), make_spec(), **options).counts
        assert (counts.impressions, counts.left_out, counts.kept) == (9, 5, 4)
        said = tries.load_or_say("log.csv", as_csv(log), make_spec(), first_day="2030-01-01")
        assert "9 impressions outside of first_day = 2030-01-01" in said


@pytest.mark.parametrize("clicks", ["none", "all", "one_user"])
def test_uneven_logs_are_prepared_whole(tmp_path, clicks):
    """No clicks, nothing but clicks, a single user whose days come in no order, an empty group."""
    import numpy as np

    from data_pipeline.data_set import WriteOptions
    from data_pipeline.preparation import ReadOptions, prepare
    from data_pipeline.reader import make_dataset

    rng = random.Random(0)
    log = [
        row(
            i,
            user_id=1 if clicks == "one_user" else i % 7,
            click={"none": 0, "all": 1, "one_user": rng.randrange(2)}[clicks],
            time=START + 3600 * rng.randrange(100),
            segment=i % 2,  # of three
        )
        for i in range(200)
    ]
    path = write_csv(tmp_path / "log.csv", log)
    spec = tmp_path / "spec.toml"
    spec.write_text(
        SPEC_TEXT[: SPEC_TEXT.index("[tables")].replace("length = 3\n", "length = 3\n[columns]\n")
        + 'segment = { role = "group", type = "int", encoding = "identity", num_values = 3 }\n'
        + 'user_id = { role = "user", type = "int", encoding = "vocabulary" }\n'
        + 'item_id = { role = "item", type = "string", encoding = "vocabulary" }\n'
        + 'click = { role = "label", type = "int" }\n'
        + 'time = { role = "timestamp", type = "int", unit = "s" }\n'
    )
    target = tmp_path / "prepared"
    told = prepare(str(spec), str(path), target, ReadOptions(threads=1), WriteOptions())
    assert told["kept"] == sum(split["rows"] for split in told["splits"].values()) == 200
    labels = [label for _, label, _ in make_dataset(target, "train", 64)]
    expected = {"none": {0.0}, "all": {1.0}, "one_user": {0.0, 1.0}}[clicks]
    assert set(np.concatenate(labels).tolist()) == expected


def test_counts_that_do_not_add_up_stop_the_work(tmp_path, monkeypatch):
    from data_pipeline import loading
    from data_pipeline.counts import CountError

    original = loading.drop_duplicates

    def losing(engine, spec, rows, name):
        rows, count = original(engine, spec, rows, name)
        return rows.limit(1), count

    monkeypatch.setattr(loading, "drop_duplicates", losing)
    path = write_csv(tmp_path / "log.csv", [row(0), row(1)])
    with pytest.raises(CountError, match="do not add up.*impressions = 2.*kept = 1"):
        load(tmp_path, make_spec(), path)
