from __future__ import annotations

import pathlib

import duckdb
import pyarrow.parquet as pq
import pytest

from clsd_tf.spec import read_spec
from data_pipeline.datasets import ready_specs, spec_path
from data_pipeline.datasets.kuairand_histories import TABLE, write_histories
from data_pipeline.datasets.movielens_files import convert

GENRES = ("unknown", "Action", "Children's", "Drama", "Film-Noir")
# The same log in the two official formats, non-ASCII titles and quotes included.
FILES_100K = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t5\t891717742\n22\t242\t4\t878887116\n",
    "u.user": "22|25|M|writer|40206\n186|39|F|executive|00000\n196|49|M|writer|V5A2B\n",
    "u.item": (
        "242|Am\xe9lie (2001)|24-Jan-1997||http://us.imdb.com/M/title-exact?Am\xe9lie|0|0|0|1|0\n"
        '302|"L.A." Story, Won\'t (1997)|01-Jan-1997||http://us.imdb.com/|0|1|1|0|1\n'
        "267|unknown||||1|0|0|0|0\n"
    ),
    "u.genre": "".join(f"{genre}|{i}\n" for i, genre in enumerate(GENRES)) + "\n",
}
FILES_1M = {
    "ratings.dat": ("196::242::3::881250949\n186::302::5::891717742\n22::242::4::878887116\n"),
    "users.dat": "22::M::25::20::40206\n186::F::35::3::00000-1234\n196::M::45::20::V5A2B\n",
    "movies.dat": (
        "242::Am\xe9lie (2001)::Drama\n"
        "302::\"L.A.\" Story, Won't (1997)::Action|Children's|Film-Noir\n"
        "267::unknown::unknown\n"
    ),
}
MOVIES = [
    {"movie_id": 242, "title": "Am\xe9lie (2001)", "genres": "Drama", "year": 2001},
    {
        "movie_id": 302,
        "title": '"L.A." Story, Won\'t (1997)',
        "genres": "Action|Children's|Film-Noir",
        "year": 1997,
    },
    {"movie_id": 267, "title": "unknown", "genres": "unknown", "year": None},
]


def write(directory: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    """Writes files in the official encoding."""
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text, encoding="latin-1")
    return directory


@pytest.mark.parametrize("name", sorted(ready_specs()))
def test_ready_specs_are_valid(name):
    spec = read_spec(spec_path(name))
    assert spec.name == name
    assert spec.history is not None
    satisfaction = {column.name for column in spec.with_role("satisfaction")}
    assert not satisfaction & {column.name for column in spec.encoded_columns}


def test_specs_by_name_or_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.touch()
    assert spec_path(path) == spec_path(str(path)) == path
    assert spec_path("kuairand").name == "kuairand.toml"
    with pytest.raises(FileNotFoundError, match="Received: 'kuai'.*: kuairand, movielens."):
        spec_path("kuai")


class TestKuaiRand:
    def test_columns_are_those_of_the_files(self, kuairand_directory):
        spec = read_spec(spec_path("kuairand"))
        files = {None: spec.input.files}
        files |= {name: table.file for name, table in spec.tables.items()}
        for table, pattern in files.items():
            (path,) = (kuairand_directory / "data").glob(pattern)
            header = set(duckdb.read_csv(str(path)).columns)
            declared = {c.source_name for c in spec.source_columns if c.table == table}
            key = {spec.tables[table].key} if table else set()
            assert declared | key == header

    def test_what_follows_a_click_is_no_input(self):
        spec = read_spec(spec_path("kuairand"))
        after = {"is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"}
        after |= {"play_time_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter"}
        assert {column.name for column in spec.with_role("satisfaction")} == after
        snapshot = {"user_active_degree", "follow_user_num", "fans_user_num", "friend_user_num"}
        assert snapshot <= {column.name for column in spec.with_role("ignore")}

    def test_groups_and_days(self):
        spec = read_spec(spec_path("kuairand"))
        assert spec.group.boundaries == (16, 41, 91)
        assert spec.group.default == 0
        assert spec.split.day_column == "date"
        assert (spec.split.valid_from, spec.split.test_from) == (20220504, 20220505)
        assert spec.owner(spec.column("earlier_watches")) is spec.item
        assert spec.column("click_history").max_length == 50


class TestKuaiRandHistories:
    HEADER = "user_id,video_id,date,time_ms,is_click,long_view\n"
    EARLY = "log_standard_4_08_to_4_21_pure.csv"
    LATE = "log_standard_4_22_to_5_08_pure.csv"

    def write(self, directory: pathlib.Path, early: list[str], late: list[str]) -> None:
        for name, rows in {self.EARLY: early, self.LATE: late}.items():
            (directory / name).write_text(self.HEADER + "".join(f"{row}\n" for row in rows))

    def test_what_came_before(self, tmp_path):
        self.write(
            tmp_path,
            ["7,31,20220409,20,1,1", "7,30,20220409,10,1,0", "7,30,20220409,10,1,0"]
            + [f"8,{i},20220410,{1000 + i},1,{int(i < 3)}" for i in range(60)],
            ["7,30,20220424,30,0,0", "7,99,20220425,40,1,1", "9,5,20220501,50,1,1"],
        )
        assert write_histories(tmp_path) == {"users": 2, "impressions": 63}
        assert (tmp_path / TABLE).read_text().splitlines() == [
            "user_id,history_len,watch_seq,long_watch_seq",
            "7,3,30 31 30,31",
            f"8,60,{' '.join(map(str, range(10, 60)))},0 1 2",
        ]
        with pytest.raises(FileExistsError, match="Remove it, or give --overwrite"):
            write_histories(tmp_path)
        assert write_histories(tmp_path, overwrite=True)["users"] == 2
        assert len(list(tmp_path.iterdir())) == 3

    def test_what_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="without log_standard"):
            write_histories(tmp_path)
        self.write(tmp_path, [], ["7,30,20220425,30,0,0"])
        with pytest.raises(FileNotFoundError, match="no rows before 20220425"):
            write_histories(tmp_path)
        (tmp_path / self.EARLY).write_text("user_id,video\n1,2\n")
        (tmp_path / self.LATE).unlink()
        with pytest.raises(ValueError, match="not in the official format"):
            write_histories(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [self.EARLY]

    def test_columns_are_those_of_the_real_table(self, kuairand_directory, tmp_path):
        self.write(tmp_path, ["7,31,20220409,20,1,1"], [])
        write_histories(tmp_path)
        (real,) = (kuairand_directory / "data").glob(f"{TABLE}*")
        made, real = (duckdb.read_csv(str(path)).columns for path in (tmp_path / TABLE, real))
        assert made == real


class TestMovieLens:
    @pytest.mark.parametrize("files", [FILES_100K, FILES_1M], ids=["100k", "1m"])
    def test_official_files(self, tmp_path, files):
        output = tmp_path / "movielens"
        rows = convert(write(tmp_path / "official", files), output)
        assert rows == {"ratings.parquet": 3, "users.parquet": 3, "movies.parquet": 3}
        assert pq.read_table(output / "movies.parquet").to_pylist() == MOVIES
        ratings = pq.read_table(output / "ratings.parquet").to_pylist()
        first = {"user_id": 196, "movie_id": 242, "rating": 3, "timestamp": 881250949}
        assert ratings[0] == first
        assert [row["user_id"] for row in ratings] == [196, 186, 22]
        users = pq.read_table(output / "users.parquet").to_pylist()
        assert [user["region"] for user in users] == ["40", "00", "V5"]
        assert [user["gender"] for user in users] == ["M", "F", "M"]
        assert users[0]["age"] == 25

    @pytest.mark.parametrize("files", [FILES_100K, FILES_1M], ids=["100k", "1m"])
    def test_the_spec_reads_what_the_adapter_writes(self, tmp_path, files):
        spec = read_spec(spec_path("movielens"))
        output = tmp_path / "movielens"
        convert(write(tmp_path / "official", files), output)
        written = {"int": "int64", "string": "string"}
        tables = {None: spec.input.files}
        tables |= {name: table.file for name, table in spec.tables.items()}
        for table, file in tables.items():
            schema = pq.read_schema(output / file)
            for column in spec.source_columns:
                if column.table == table:
                    expected = "string" if column.is_list else written[column.type]
                    assert str(schema.field(column.source_name).type) == expected

    def test_ratings_are_not_clicks(self):
        spec = read_spec(spec_path("movielens"))
        assert spec.label.positive_from == 4
        assert spec.split.by == "time"
        assert "Ratings are not impressions" in spec_path("movielens").read_text(encoding="utf-8")

    def test_other_directories(self, tmp_path):
        official = write(tmp_path / "official", {"ratings.csv": "", "u.data": ""})
        message = (
            "is no MovieLens directory. Received: ratings.csv, u.data. Expected: u.data, u.user, "
            "u.item, u.genre, or ratings.dat, users.dat, movies.dat."
        )
        with pytest.raises(FileNotFoundError, match=message):
            convert(official, tmp_path / "output")
        assert not (tmp_path / "output").exists()

    def test_damage(self, tmp_path):
        files = FILES_1M | {"ratings.dat": "1::2::3::4\n1::two::3::4\n"}
        official = write(tmp_path / "official", files)
        with pytest.raises(
            ValueError, match="The ratings in .* not in the official format"
        ) as caught:
            convert(official, tmp_path / "output")
        assert "Line: 2" in str(caught.value)
        assert not (tmp_path / "output").exists()

    def test_nothing_is_overwritten_unasked(self, tmp_path):
        official, output = write(tmp_path / "official", FILES_1M), tmp_path / "output"
        convert(official, output)
        with pytest.raises(FileExistsError, match="--overwrite"):
            convert(official, output)
        assert convert(official, output, overwrite=True)["ratings.parquet"] == 3
