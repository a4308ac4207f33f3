from __future__ import annotations

import pytest

from clsd_tf.versions import list_versions, new_version, remove_old_versions


def add(base, version=None) -> str:
    with new_version(base, version) as (beside, target):
        (beside / "file").write_text("whole")
    return target.name


def test_count_up(tmp_path):
    assert [add(tmp_path), add(tmp_path), add(tmp_path, 12), add(tmp_path)] == [
        "1",
        "2",
        "12",
        "13",
    ]
    assert list_versions(tmp_path) == [1, 2, 12, 13]
    assert (tmp_path / "12" / "file").read_text() == "whole"


def test_numbers_alone_are_versions(tmp_path):
    for name in ("3", "03x", "latest", ".4.tmp", "0"):
        (tmp_path / name).mkdir()
    (tmp_path / "5").write_text("a file")
    assert list_versions(tmp_path) == [3]
    assert list_versions(tmp_path / "nowhere") == []


def test_unfinished_ones_are_never_numbers(tmp_path):
    with new_version(tmp_path, 3) as (beside, _):
        assert [beside] == list(tmp_path.iterdir())
        assert not beside.name.isdecimal()
        assert list_versions(tmp_path) == []


def test_are_never_replaced(tmp_path):
    add(tmp_path, 3)
    with pytest.raises(FileExistsError, match="Version 3 exists"):
        add(tmp_path, 3)
    assert (tmp_path / "3" / "file").exists()


def test_of_two_at_once_one_wins(tmp_path):
    with (
        pytest.raises(FileExistsError, match="Version 1 exists"),
        new_version(tmp_path) as (beside, target),
    ):
        (beside / "file").write_text("slow")
        target.mkdir()
        (target / "file").write_text("fast")
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "file").read_text() == "fast"


def test_are_positive(tmp_path):
    with pytest.raises(ValueError, match="positive integer. Received: 0"):
        add(tmp_path, 0)


class TestRemoval:
    @pytest.fixture
    def base(self, tmp_path):
        for version in (1, 2, 3, 10):
            add(tmp_path, version)
        return tmp_path

    def test_keeps_the_latest(self, base):
        assert remove_old_versions(base, 2) == [1, 2]
        assert sorted(p.name for p in base.iterdir()) == ["10", "3"]

    def test_keeps_what_a_label_points_to(self, base):
        assert remove_old_versions(base, 1, protected=[2]) == [1, 3]
        assert list_versions(base) == [2, 10]

    def test_keeps_more_than_there_are(self, base):
        assert remove_old_versions(base, 9) == []
        assert list_versions(base) == [1, 2, 3, 10]

    def test_keeps_something(self, base):
        with pytest.raises(ValueError, match="at least 1 version. Received: 0"):
            remove_old_versions(base, 0)
