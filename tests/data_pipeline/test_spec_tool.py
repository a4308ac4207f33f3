"""`clsd-spec`: what a draft makes of logs of any format, and what a check says of a spec."""

from __future__ import annotations

import json
import pathlib
import random
import tomllib

import pytest

from clsd_tf.spec import parse_spec, read_spec
from data_pipeline.datasets import spec_path
from data_pipeline.engines import open_engine
from data_pipeline.input_files import find_log
from data_pipeline.log_profile import profile_log
from data_pipeline.spec_check import check_against
from data_pipeline.spec_draft import draft_spec
from data_pipeline.spec_roles import words_of
from tests import mains
from tests.data_pipeline.raw_logs import load, write_csv, write_json_lines, write_parquet

DAY = 86_400
START = 1_650_000_000 // DAY * DAY


def rows_of_a_shop(count: int = 1200) -> list[dict]:
    """Twelve days of a log with one column of each kind of trouble."""
    rng = random.Random(0)
    segments = {user: f"seg_{rng.randrange(3)}" for user in range(60)}
    rows = []
    for number in range(count):
        user, item = rng.randrange(60), rng.randrange(40)
        clicked = int(rng.random() < 0.15 + 0.01 * item)
        rows.append(
            {
                "shown_at": START + number * 12 * DAY // count,
                "customer_id": f"u{user}",
                "sku": item,
                "clicked": clicked,
                "segment": segments[user],
                "request_id": f"r{number:06d}",
                "channel": "web",
                "zip": f"{item % 7:05d}",
                "price": round(3 + rng.expovariate(0.1), 2),
                "category": f"c{item % 5}",
                "position": rng.randrange(12),
                "tags": "|".join(f"t{t}" for t in sorted(rng.sample(range(9), 2))),
                "dwell_s": round(rng.expovariate(0.1), 1) if clicked else None,
                "is_like": int(clicked and rng.random() < 0.2),
                "score_after": clicked + rng.gauss(0, 0.2),
                "age": rng.choice(["31", "44", "27", "58"]) if number % 200 else "N/A",
            }
        )
    return rows


@pytest.fixture(scope="module")
def shop() -> list[dict]:
    return rows_of_a_shop()


def draft(directory: pathlib.Path, path: pathlib.Path, sample: int = 100_000, **given: str):
    engine = open_engine(directory / "draft_engine", threads=2)
    try:
        return draft_spec(profile_log(engine, find_log(path, "*"), sample, given), "shop")
    finally:
        engine.disconnect()


def check(directory: pathlib.Path, text: str, path: pathlib.Path, sample: int = 100_000):
    engine = open_engine(directory / "check_engine", threads=2)
    try:
        spec = parse_spec(text)
        return check_against(engine, spec, find_log(path, spec.input.files), sample)
    finally:
        engine.disconnect()


def codes(findings, column: str | None = "any") -> list[str]:
    return [f.code for f in findings if column == "any" or f.column == column]


@pytest.fixture(scope="module")
def drafted(tmp_path_factory, shop):
    directory = tmp_path_factory.mktemp("shop")
    path = write_csv(directory / "shop.csv", shop)
    return draft(directory, path), path


class TestDraft:
    def test_roles_and_encodings(self, drafted):
        columns = tomllib.loads(drafted[0].text)["columns"]
        assert columns["customer_id"]["role"] == "user"
        assert columns["sku"] == {
            "role": "item", "type": "int", "encoding": "vocabulary", "min_count": 2,
        }  # fmt: skip
        assert columns["shown_at"] == {"role": "timestamp", "type": "int", "unit": "s"}
        assert columns["clicked"] == {"role": "label", "type": "int"}
        assert columns["segment"] == {"role": "group", "type": "string", "encoding": "vocabulary"}
        assert columns["position"] == {"type": "int", "encoding": "identity", "num_values": 12}
        assert columns["price"]["encoding"] == "numeric"
        assert columns["tags"]["separator"] == "|"
        assert columns["tags"]["max_length"] == 2
        assert columns["zip"]["type"] == "string"  # 00003 is no number

    def test_what_must_not_be_learned_from_is_left_out(self, drafted):
        columns = tomllib.loads(drafted[0].text)["columns"]
        assert {n for n, c in columns.items() if c.get("role") == "satisfaction"} == {
            "dwell_s",
            "is_like",
        }
        assert {n for n, c in columns.items() if c.get("role") == "ignore"} == {
            "request_id",
            "channel",
            "score_after",
        }
        found = {(f.column, f.code) for f in drafted[0].findings}
        assert {
            ("dwell_s", "post_click"),
            ("is_like", "post_click"),
            ("score_after", "leak"),
            ("request_id", "nearly_unique"),
            ("channel", "constant"),
            ("zip", "leading_zeros"),
            ("age", "almost_a_number"),
        } <= found

    def test_findings_stand_as_comments_before_their_column(self, drafted):
        before = drafted[0].text.split("\nscore_after =")[0].rsplit("\n", 6)
        assert any("looks like a leak" in line for line in before)
        assert "'N/A'" in drafted[0].text

    def test_it_loads_without_edits_and_the_check_is_content(self, drafted, tmp_path):
        result, path = drafted
        assert result.edits == ()
        spec = parse_spec(result.text)
        loaded = load(tmp_path, spec, path)
        assert loaded.rows_read == 1200
        assert loaded.quarantined == {}
        assert spec.split.valid_from == "2022-04-25"
        assert spec.split.test_from == "2022-04-26"
        findings = check(tmp_path, result.text, path)
        assert [f for f in findings if f.level == "error"] == []

    @pytest.mark.parametrize(
        "write, name", [(write_parquet, "s.parquet"), (write_json_lines, "s.jsonl.gz")]
    )
    def test_other_formats_give_the_same_spec(self, write, name, shop, drafted, tmp_path):
        others = draft(tmp_path, write(tmp_path / name, shop))
        mine, theirs = (tomllib.loads(d.text) for d in (drafted[0], others))
        assert theirs["columns"] == mine["columns"]
        assert theirs["split"] == mine["split"]

    def test_a_sample_is_the_same_each_time_and_users_of_a_long_log_are_not_unique(
        self, shop, tmp_path
    ):
        path = write_csv(tmp_path / "long.csv", shop)
        drafts = [draft(tmp_path, path, sample=500) for _ in range(2)]
        assert drafts[0] == drafts[1]
        columns = tomllib.loads(drafts[0].text)["columns"]
        assert columns["customer_id"]["role"] == "user"
        assert "nearly_unique" not in codes(drafts[0].findings, "customer_id")

    def test_what_no_name_tells_is_asked_for(self, tmp_path, shop):
        renamed = [
            {"a": r["customer_id"], "b": r["sku"], "c": r["clicked"], "d": r["shown_at"]}
            for r in shop
        ]
        path = write_csv(tmp_path / "letters.csv", renamed)
        asked = draft(tmp_path, path)
        assert len(asked.edits) == 4
        assert "--label=COLUMN. Candidates by their values: 'c'" in " ".join(asked.text.split())
        told = draft(tmp_path / "2", path, label="c", user="a", item="b", timestamp="d")
        assert told.edits == ()
        parse_spec(told.text)

    def test_a_given_column_that_is_not_there(self, drafted, tmp_path):
        with pytest.raises(ValueError, match="--label names no column.*'klick'.*clicked"):
            draft(tmp_path, drafted[1], label="klick")

    def test_ratings_are_asked_about(self, tmp_path):
        rng = random.Random(1)
        rows = [
            {
                "user": n % 9,
                "movie_id": n % 7,
                "rating": rng.randrange(1, 6),
                "timestamp": START + n,
            }
            for n in range(200)
        ]
        asked = draft(tmp_path, write_csv(tmp_path / "ratings.csv", rows))
        assert tomllib.loads(asked.text)["columns"]["rating"]["positive_from"] == 4.0
        assert len(asked.edits) == 1

    def test_names_that_no_spec_takes(self, tmp_path, shop):
        rows = [
            {"User Id": r["customer_id"], "_sku": r["sku"], "isClicked": r["clicked"],
             "ts": r["shown_at"], "2nd": r["price"]}
            for r in shop
        ]  # fmt: skip
        spec = parse_spec(draft(tmp_path, write_csv(tmp_path / "odd.csv", rows), item="_sku").text)
        assert {c.name: c.source_name for c in spec.source_columns} == {
            "User_Id": "User Id", "sku": "_sku", "isClicked": "isClicked", "ts": "ts",
            "c_2nd": "2nd",
        }  # fmt: skip


SHOP = """
name = "shop"
[split]
valid_from = "{valid}"
test_from = "2022-04-26"
[columns]
customer_id = {{ role = "user", type = "string", encoding = "vocabulary" }}
sku = {{ role = "item", type = "int", encoding = "vocabulary" }}
shown_at = {{ role = "timestamp", type = "int", unit = "{unit}" }}
clicked = {{ role = "label", type = "int" }}
{more}
"""


class TestCheck:
    def text(self, more: str = "", unit: str = "s", valid: str = "2022-04-25") -> str:
        return SHOP.format(more=more, unit=unit, valid=valid)

    def test_each_mistake_is_explained(self, drafted, tmp_path):
        more = """
        dwell_s = { type = "float", encoding = "numeric" }
        score_after = { type = "float", encoding = "numeric" }
        request_id = { type = "string", encoding = "vocabulary" }
        channel = { type = "string", encoding = "vocabulary" }
        position = { type = "int", encoding = "identity", num_values = 6 }
        zip = { type = "string", encoding = "hash", num_buckets = 2 }
        category = { role = "group", type = "string", encoding = "vocabulary" }
        age = { type = "int", encoding = "vocabulary" }
        """
        findings = check(tmp_path, self.text(more), drafted[1])
        assert codes(findings, "dwell_s") == ["post_click"]
        assert codes(findings, "score_after") == ["leak"]
        assert codes(findings, "request_id") == ["nearly_unique"]
        assert codes(findings, "channel") == ["constant"]
        assert codes(findings, "position") == ["outside_identity"]
        assert codes(findings, "zip") == ["full_hash"]
        assert "changing_group" in codes(findings, "category")
        (age,) = [f for f in findings if f.column == "age" and f.code == "bad_rows"]
        assert age.level == "warning"
        assert "not an integer. Such as: 'N/A'" in age.what
        (unread,) = [f for f in findings if f.code == "unread_columns"]
        assert "price" in unread.what
        assert all(f.why or f.mend for f in findings)

    def test_a_wrong_unit_is_told_with_the_right_one(self, drafted, tmp_path):
        findings = check(tmp_path, self.text(unit="ms"), drafted[1])
        assert findings[0].level == "error"
        assert "1,200 of 1,200 rows: before 1990" in findings[0].what
        assert 'set unit = "s"' in findings[0].mend

    def test_missing_columns_come_with_the_nearest(self, drafted, tmp_path):
        more = 'categry = { type = "string", encoding = "vocabulary" }'
        (finding,) = check(tmp_path, self.text(more), drafted[1])
        assert (finding.level, finding.column) == ("error", "categry")
        assert "Did you mean 'category'?" in finding.what

    def test_days_that_the_log_does_not_have(self, drafted, tmp_path):
        text = self.text(valid="2022-04-01")
        (finding,) = [f for f in check(tmp_path, text, drafted[1]) if f.code == "empty_split"]
        assert finding.level == "error"
        assert "no rows for train: the log has days 2022-04-15 to 2022-04-26" in finding.what


class TestCommand:
    """In this process; as one of its own in `test_spec_command.py`."""

    def call(self, capsys, *arguments: str) -> tuple[str, dict]:
        with mains.imported("data_pipeline.spec") as spec:
            spec.flags.FLAGS(["clsd-spec"])
            spec.main(["clsd-spec", *arguments])
        out = capsys.readouterr().out
        return out, json.loads(pathlib.Path(out.splitlines()[-1]).read_text())

    def test_draft_and_check(self, capsys, monkeypatch, tmp_path, drafted):
        monkeypatch.chdir(tmp_path)
        out, results = self.call(capsys, "draft", str(drafted[1]))
        assert "warning: column 'score_after': It looks like a leak" in out
        assert read_spec("shop.toml").name == "shop"
        assert results["metrics"]["roles"]["label"] == "clicked"
        with pytest.raises(FileExistsError, match="--overwrite"):
            self.call(capsys, "draft", str(drafted[1]))
        out, results = self.call(capsys, "check", "shop.toml", str(drafted[1]))
        assert "0 errors" in out
        pathlib.Path("shop.toml").write_text(TestCheck().text(unit="ms"))
        with pytest.raises(ValueError, match="does not fit the log. Received: 1 error"):
            self.call(capsys, "check", "shop.toml", str(drafted[1]))


@pytest.mark.parametrize(
    "name, words",
    [
        ("isClicked", ("is", "clicked")),
        ("user_id", ("user", "id")),
        ("userid", ("user", "id")),
        ("ItemID", ("item", "id")),
        ("play time (ms)", ("play", "time", "ms")),
        ("paid", ("paid",)),
    ],
)
def test_words(name, words):
    assert words_of(name) == words


def test_the_real_log(kuairand_directory, tmp_path):
    """Its draft loads as it is, and keeps all that came after the click from the model."""
    path = next((kuairand_directory / "data").glob("log_standard*"))
    spec = parse_spec(draft(tmp_path, path, sample=60_000).text)
    official = read_spec(spec_path("kuairand"))
    after = {column.name for column in official.with_role("satisfaction")}
    assert not after.intersection(column.name for column in spec.model_columns)
    for role in ("user", "item", "timestamp", "label"):
        assert getattr(spec, role).name == getattr(official, role).name
    assert (spec.split.valid_from, spec.split.test_from) == (20220504, 20220505)
    loaded = load(tmp_path, spec, path)
    assert loaded.quarantined == {}
    assert loaded.rows_read == 180_384
