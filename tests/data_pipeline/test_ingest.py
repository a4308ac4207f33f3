"""Files become rows that know their place; rows that cannot be read are kept with a reason."""

from __future__ import annotations

import gzip
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.csv_rows import FILE, NUMBER, REASON, TEXT
from data_pipeline.engines import open_engine
from data_pipeline.ingest import drop_rows, read_rows
from data_pipeline.input_files import find_log, find_table
from tests.data_pipeline.raw_logs import write_csv, write_json_lines, write_parquet

OWN = (FILE, NUMBER, TEXT, REASON)


def read(directory: pathlib.Path, inputs: object, needed=("a",), threads: int = 2) -> list[dict]:
    """Raw rows in the order of the files."""
    engine = open_engine(directory / f"engine-{threads}", threads=threads)
    raw = read_rows(engine, "raw_log", find_log(inputs, "*.*"), needed)
    return raw.table.order_by(FILE, NUMBER).to_pyarrow().to_pylist()


def places(rows: list[dict]) -> list[tuple]:
    """File, number, text and reason of each row."""
    return [tuple(row[name] for name in OWN) for row in rows]


class TestCsv:
    def test_values_are_text_and_nothing_is_interpreted(self, tmp_path):
        path = tmp_path / "log.csv"
        path.write_bytes(
            b'\xef\xbb\xbfa,b,c d\r\n1.0,"x, ""y""\r\nz",\r\n'
            b" 007 ,NULL,2022-05-04\r\n\xc3\xb6,'q',#no comment\r\n"
        )
        rows = read(tmp_path, path)
        received = [(row["a"], row["b"], row["c d"]) for row in rows]
        assert received == [
            ("1.0", 'x, "y"\r\nz', None),
            (" 007 ", "NULL", "2022-05-04"),
            ("ö", "'q'", "#no comment"),
        ]
        assert places(rows) == [(0, number, None, None) for number in (1, 2, 3)]

    @pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
    def test_unreadable_rows_are_kept_and_the_others_keep_their_numbers(self, tmp_path, name):
        content = (
            b'a,b\n1,1\n2\n3,3,3\n4,4\n5,\xff\n6,"multi\nline"\n7,"b"roken\n8,8\n9,"open,9\n10,10\n'
        )
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        rows = read(tmp_path, path)
        assert places(rows) == [
            (0, 1, None, None),
            (0, 2, "2", "row: too few columns"),
            (0, 3, "3,3,3", "row: too many columns"),
            (0, 4, None, None),
            (0, 5, "5,?", "row: not UTF-8"),
            (0, 6, None, None),
            (0, 7, '7,"b"roken', "row: broken quotes"),
            (0, 8, None, None),
            (0, 9, '9,"open,9\n10,10', "row: broken quotes"),
        ]
        assert [row["a"] for row in rows if row["a"]] == ["1", "4", "6", "8"]

    def test_files_may_order_their_columns_differently(self, tmp_path):
        (tmp_path / "1.csv").write_text("a,b\n1,x\n")
        (tmp_path / "2.csv").write_text("b,a,c\ny,2,z\n")
        (tmp_path / "3.csv").write_text("a,b\n3,x\nbad\n")
        rows = read(tmp_path, tmp_path / "*.csv")
        received = [(row[FILE], row[NUMBER], row["a"], row["b"], row["c"]) for row in rows]
        assert received == [
            (0, 1, "1", "x", None),
            (1, 1, "2", "y", "z"),
            (2, 1, "3", "x", None),
            (2, 2, None, None, None),
        ]

    def test_what_is_kept_is_made_as_rows_are_read(self, tmp_path):
        (tmp_path / "1.csv").write_text("a,b\n1,x\ntoo few\n3,y\n")
        (tmp_path / "2.csv").write_text("b,a,c\nz,4,1\n")
        engine = open_engine(tmp_path / "engine")

        def kept(raw):
            assert raw.columns == ("a", "b", "c")
            number = raw.table["a"].cast("int64") * 10
            return raw.table.select(*OWN, tens=number, rowid=raw.table["b"])

        files = find_log(tmp_path / "*.csv", "*.*")
        rows = read_rows(engine, "raw_log", files, ["a"], kept).table.order_by(FILE, NUMBER)
        received = [
            tuple(row.values())
            for row in rows.select(*OWN, "tens", "rowid").to_pyarrow().to_pylist()
        ]
        assert received == [
            (0, 1, None, None, 10, "x"),
            (0, 2, "too few", "row: too few columns", None, None),
            (0, 3, None, None, 30, "y"),
            (1, 1, None, None, 40, "z"),
        ]

    def test_tabs_and_an_index_without_a_name(self, tmp_path):
        (tmp_path / "log.tsv").write_text("\ta\n0\tx,y\n")
        (row,) = read(tmp_path, tmp_path / "log.tsv")
        assert (row["column_0"], row["a"]) == ("0", "x,y")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_numbers_do_not_depend_on_threads(self, tmp_path, threads):
        # Large enough for several buffers. Every 1000th row is bad, every 777th has two lines.
        lines = [
            f"{i}" if i % 1000 == 0 else f'{i},"x\ny"' if i % 777 == 0 else f"{i},{'z' * 300}"
            for i in range(1, 240_001)
        ]
        (tmp_path / "log.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
        engine = open_engine(tmp_path / "engine", threads=threads)
        raw = read_rows(engine, "raw_log", find_log(tmp_path / "log.csv", "*"), ["a"])
        value = raw.table["a"].fill_null(raw.table[TEXT]).cast("int64")
        matching = raw.table.filter(value == raw.table[NUMBER]).count()
        assert engine.to_pyarrow(matching).as_py() == 240_000

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "log.csv is empty"),
            (b"a,b,A\n1,2,3\n", "Received: 'a' and 'A' in"),
            (b"\xff\xfe,a\n", "Cannot read the header"),
        ],
    )
    def test_damaged_headers(self, tmp_path, content, message):
        (tmp_path / "log.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read(tmp_path, tmp_path / "log.csv")

    def test_truncated_compression(self, tmp_path):
        content = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i**7) for i in range(99999)))
        (tmp_path / "log.csv.gz").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"Cannot read the log \(log.csv.gz\)"):
            read(tmp_path, tmp_path / "log.csv.gz")


class TestJsonLines:
    def test_rows_that_are_no_objects_are_kept(self, tmp_path):
        path = tmp_path / "log.jsonl"
        path.write_bytes(
            b'{"a": 1, "b": [1, "x"], "c": {"d": 2}}\n\n{"b": null}\n{"a": 1\n[1]\n{"a": "\xff"}\n'
        )
        rows = read(tmp_path, path, needed=("a", "b"))
        assert [row[NUMBER] for row in rows] == [1, 3, 4, 5, 6]
        assert [row[REASON] for row in rows] == [
            None,
            None,
            "row: not a JSON object",
            "row: not a JSON object",
            "row: not UTF-8",
        ]
        assert rows[0][TEXT] == '{"a": 1, "b": [1, "x"], "c": {"d": 2}}'
        assert rows[2][TEXT] == '{"a": 1'
        assert (rows[0]["a"], rows[1]["a"], rows[1]["b"]) == ("1", None, None)
        assert json.loads(rows[0]["b"]) == [1, "x"]

    def test_a_column_is_missing_if_no_row_has_it(self, tmp_path):
        path = write_json_lines(tmp_path / "log.jsonl", [{"a": 1}, {"Click": 1}])
        with pytest.raises(ValueError, match=r"The log lacks .*'click' \(did you mean 'Click'\?\)"):
            read(tmp_path, path, needed=("a", "click"))


class TestParquet:
    def test_values_keep_their_types(self, tmp_path):
        path = write_parquet(tmp_path / "log.parquet", [{"a": 1.5, "b": [1]}, {"a": None}])
        rows = read(tmp_path, path)
        assert [(row["a"], row["b"], row[NUMBER]) for row in rows] == [
            (1.5, [1], 1),
            (None, None, 2),
        ]

    def test_numbers_of_large_files(self, tmp_path):
        for i in range(2):
            table = pa.table({"a": range(1, 50_001)})
            pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=7_000)
        rows = read(tmp_path, tmp_path / "*.parquet")
        assert [(row[FILE], row[NUMBER]) for row in rows] == [
            (file, number) for file in range(2) for number in range(1, 50_001)
        ]
        assert all(row["a"] == row[NUMBER] for row in rows)

    def test_every_file_needs_the_columns(self, tmp_path):
        write_parquet(tmp_path / "1.parquet", [{"a": 1, "b": 1}])
        write_parquet(tmp_path / "2.parquet", [{"a": 1}])
        with pytest.raises(ValueError, match="File 2.parquet of the log lacks.*'b'"):
            read(tmp_path, tmp_path, needed=("a", "b"))

    def test_a_file_that_is_none(self, tmp_path):
        (tmp_path / "log.parquet").write_text("a,b\n")
        with pytest.raises(ValueError, match="log.parquet is not a Parquet file"):
            read(tmp_path, tmp_path / "log.parquet")


class TestFiles:
    def test_a_directory_is_read_by_the_glob_without_side_tables_and_hidden_files(self, tmp_path):
        for name in ("b.csv", "a.csv", "users.csv", ".hidden.csv", "_SUCCESS", "sub/c.csv"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("a\n1\n")
        files = find_log(tmp_path, "*", ["users.csv*"])
        assert [files.name(path) for path in files.paths] == ["a.csv", "b.csv"]
        files = find_log(tmp_path, "**/*.csv", ["users.csv*"])
        assert [files.name(path) for path in files.paths] == ["a.csv", "b.csv", "sub/c.csv"]

    def test_side_tables_of_a_glob_are_looked_for_where_the_glob_begins(self, tmp_path):
        (tmp_path / "day=1").mkdir()
        (tmp_path / "day=1" / "log.csv").write_text("a\n1\n")
        (tmp_path / "users.csv").write_text("a\n1\n")
        files = find_log(f"{tmp_path}/day=*/*.csv", "*")
        assert files.directory == tmp_path
        assert files.sources() == [{"file": "day=1/log.csv", "bytes": 4}]
        assert find_table(files.directory, "user", "users.*").paths == (tmp_path / "users.csv",)

    @pytest.mark.parametrize(
        ("inputs", "pattern", "message"),
        [
            ("", "log*", "No file in .* matches input.files = 'log.*'. Received: a.csv, b.parquet"),
            ("*.json", "", "No file matches"),
            ("nowhere/log.csv", "", "No file matches"),
        ],
    )
    def test_no_files(self, tmp_path, inputs, pattern, message):
        (tmp_path / "a.csv").write_text("a\n")
        (tmp_path / "b.parquet").write_text("")
        with pytest.raises(FileNotFoundError, match=message):
            find_log(tmp_path / inputs, pattern)

    def test_mixed_and_unknown_kinds(self, tmp_path):
        write_csv(tmp_path / "a.csv", [{"a": 1}])
        write_csv(tmp_path / "a.csv.gz", [{"a": 1}])
        with pytest.raises(ValueError, match="must be of one kind.*a.csv .*a.csv.gz"):
            find_log(tmp_path, "*")
        (tmp_path / "a.xlsx").write_text("")
        with pytest.raises(ValueError, match="Cannot read a.xlsx.*Expected one of: .csv, "):
            find_log(tmp_path / "a.xlsx", "*")


def test_the_engine_can_be_emptied(tmp_path):
    path = write_csv(tmp_path / "log.csv", [{"a": 1}])
    engine = open_engine(tmp_path / "engine")
    read_rows(engine, "raw_log", find_log(path, "*"), ["a"])
    drop_rows(engine, "raw_")
    assert engine.raw_sql("SELECT * FROM information_schema.tables").fetchall() == []


@pytest.mark.parametrize(
    ("text_bytes", "is_in_memory"), [(None, False), (2_900_000, True), (3_200_000, False)]
)
def test_tables_lie_on_disk_unless_the_log_fits_into_memory(tmp_path, text_bytes, is_in_memory):
    engine = open_engine(tmp_path, memory_limit="100MB", text_bytes=text_bytes)
    assert (tmp_path / "tables.duckdb").exists() != is_in_memory
    settings = "SELECT current_setting('memory_limit'), current_setting('temp_directory')"
    assert engine.raw_sql(settings).fetchone() == ("95.3 MiB", str(tmp_path / "spill"))
    engine.disconnect()


def test_a_limit_beyond_all_memory_is_none(tmp_path):
    engine = open_engine(tmp_path, memory_limit="2000TB", text_bytes=10**15)
    assert not (tmp_path / "tables.duckdb").exists()
    engine.disconnect()


def test_compressed_files_hold_more_text_than_they_are_long(tmp_path):
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        (tmp_path / name).write_bytes(b"0123456789")
        factor = 1 if name == "a.csv" else 10
        assert find_log(tmp_path / name, "*").text_bytes() == 10 * factor


@pytest.mark.parametrize(
    ("options", "message"), [({"threads": 0}, "at least 1"), ({"memory_limit": "big"}, "4GB")]
)
def test_mistaken_engine_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_engine(tmp_path, **options)
