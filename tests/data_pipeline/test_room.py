"""Disks that are full, places that cannot be written to, processes that die or meet."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from data_pipeline import directories
from data_pipeline.cli import sentence, write_json
from data_pipeline.directories import BusyError, only_writer, whole_directory
from data_pipeline.engines import are_unreadable, lacks_room
from data_pipeline.loading import load_impressions
from data_pipeline.preparation import EngineError, ReadOptions, _engines
from tests.data_pipeline.raw_logs import make_spec, row, write_csv


@contextlib.contextmanager
def files_of_at_most(size: int):
    """As on a full disk, files cannot grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def fill(place: pathlib.Path, text: str, **options: bool) -> None:
    with whole_directory(place, mark="mark", **options) as beside:
        (beside / "mark").write_text(text)


class TestFullDisk:
    @pytest.mark.parametrize("text_bytes", [1, 10**9])  # tables in memory, and on disk
    def test_the_engine_says_so_and_leaves_nothing(self, tmp_path, text_bytes):
        path = write_csv(tmp_path / "log.csv", [row(i, item_id="x" * 500) for i in range(60_000)])
        options = ReadOptions(threads=1, memory_limit="40MB")  # less than the rows take
        with (
            files_of_at_most(300_000),
            pytest.raises(EngineError) as error,
            _engines(tmp_path / "engine", options, text_bytes) as (engine, _),
        ):
            load_impressions(engine, make_spec(), path, tmp_path / "out")
        assert "The engine lacks room" in sentence(error.value)
        assert "Give another --memory_limit" in sentence(error.value)
        assert not (tmp_path / "engine").exists()

    def test_what_was_there_stays(self, tmp_path):
        fill(tmp_path / "out", "earlier")
        with files_of_at_most(1000), pytest.raises(OSError) as error:
            fill(tmp_path / "out", "x" * 5000, overwrite=True)
        assert error.value.errno == errno.EFBIG
        assert "takes no larger files. Make room" in sentence(error.value)
        assert names(tmp_path) == ["out"]
        assert (tmp_path / "out" / "mark").read_text() == "earlier"

    def test_results_are_never_cut(self, tmp_path):
        write_json(tmp_path / "results.json", {"a": 1})
        with files_of_at_most(1000), pytest.raises(OSError):
            write_json(tmp_path / "results.json", {"a": "x" * 5000})
        assert names(tmp_path) == ["results.json"]
        assert "1" in (tmp_path / "results.json").read_text()


class TestSentences:
    @pytest.mark.parametrize(
        ("number", "message"),
        [
            (errno.ENOSPC, "/out/x: no space left on device. Make room"),
            (errno.EACCES, "/out/x: permission denied. Choose a directory that may be written"),
            (errno.EROFS, "/out/x: read-only file system. Choose a directory that may be written"),
            (errno.EMFILE, "/out/x: too many open files. Allow more"),
        ],
    )
    def test_of_the_operating_system(self, number, message):
        assert sentence(OSError(number, os.strerror(number), "/out/x")).startswith(message)

    def test_errors_that_are_sentences_stay_as_they_are(self):
        assert sentence(FileNotFoundError("There is no log.")) == "There is no log."

    @pytest.mark.parametrize("error", [KeyError("x"), NotImplementedError("x"), ValueError("")])
    def test_defects_have_none(self, error):
        assert sentence(error) is None

    def test_of_tensorflow_are_one_line(self):
        import tensorflow as tf

        full = tf.errors.ResourceExhaustedError(None, None, "/out/x; No space left\n more")
        assert sentence(full).startswith("/out/x; No space left. Memory or disk is full.")
        assert sentence(tf.errors.InternalError(None, None, "a defect")) is None

    def test_a_file_in_the_place_of_a_directory(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError) as error:
            fill(tmp_path / "file" / "out", "x")
        assert str(tmp_path / "file") in sentence(error.value)
        with pytest.raises(FileExistsError, match="holds other files"):
            fill(tmp_path / "file", "x")

    def test_the_engine_knows_room_from_damage(self):
        import duckdb

        assert lacks_room(duckdb.OutOfMemoryException("memory"))
        assert lacks_room(duckdb.IOException("Could not write file: No space left on device"))
        assert not lacks_room(duckdb.IOException("Snappy decompression failure"))

    def test_the_engine_knows_damage_from_its_own_mistakes(self):
        import duckdb

        for error in (duckdb.Error("Out of buffer"), duckdb.IOException("No magic bytes")):
            assert are_unreadable(error)
        assert not are_unreadable(duckdb.BinderException("no such column"))


class TestTwoAtOnce:
    def test_the_second_is_told_and_the_first_goes_on(self, tmp_path):
        with whole_directory(tmp_path / "out", mark="mark") as beside:
            (beside / "mark").write_text("first")
            with pytest.raises(BusyError, match="is being written by another process"):
                fill(tmp_path / "out", "second")
        assert (tmp_path / "out" / "mark").read_text() == "first"
        assert names(tmp_path) == ["out"]

    def test_where_there_are_no_locks_it_is_said(self, tmp_path, monkeypatch):
        def none(descriptor, kind):
            raise OSError(errno.ENOLCK, "No locks available")

        said = []
        monkeypatch.setattr(directories.fcntl, "flock", none)
        monkeypatch.setattr(directories.logging, "warning", lambda text, *_: said.append(text))
        fill(tmp_path / "out", "text")
        assert names(tmp_path) == ["out"]
        assert "this file system has no locks" in said[0]

    def test_other_places_are_free(self, tmp_path):
        with only_writer(tmp_path / "a"), only_writer(tmp_path / "b"):
            pass
        with only_writer(tmp_path / "a"):
            pass
        assert names(tmp_path) == []


class TestKilled:
    """A process that dies in the middle leaves no lock, and the next one removes the rest."""

    CODE = """
import os, pathlib, signal, sys
from data_pipeline import directories
place = pathlib.Path(sys.argv[1])
if sys.argv[2] == "between":
    rename = os.rename
    def dying(source, target):
        if pathlib.Path(target) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
    os.rename = dying
with directories.whole_directory(place, mark="mark", overwrite=True) as beside:
    (beside / "mark").write_text("killed")
    if sys.argv[2] == "inside":
        os.kill(os.getpid(), signal.SIGKILL)
"""

    def die(self, place: pathlib.Path, where: str) -> None:
        command = [sys.executable, "-P", "-c", self.CODE, str(place), where]
        assert subprocess.run(command, check=False).returncode == -9

    def test_inside(self, tmp_path):
        fill(tmp_path / "out", "earlier")
        self.die(tmp_path / "out", "inside")
        assert (tmp_path / "out" / "mark").read_text() == "earlier"
        assert names(tmp_path) == [".out.lock", ".out.tmp", "out"]
        fill(tmp_path / "out", "next", overwrite=True)
        assert (tmp_path / "out" / "mark").read_text() == "next"
        assert names(tmp_path) == ["out"]

    def test_between_two_renames_nothing_is_lost(self, tmp_path):
        fill(tmp_path / "out", "earlier")
        self.die(tmp_path / "out", "between")
        assert not (tmp_path / "out").exists()
        with pytest.raises(FileExistsError, match="holds an earlier output"):
            fill(tmp_path / "out", "next")
        assert (tmp_path / "out" / "mark").read_text() == "earlier"
        fill(tmp_path / "out", "next", overwrite=True)
        assert names(tmp_path) == ["out"]
