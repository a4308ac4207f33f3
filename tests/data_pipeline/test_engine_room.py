"""What memory the engine leaves to the code that encodes its rows."""

from __future__ import annotations

import duckdb
import pytest

from data_pipeline.engines import leave_room, open_engine


def limit_of(engine) -> int:
    read = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    return engine.raw_sql(read).fetchone()[0]


@pytest.fixture
def opened(tmp_path):
    engines = []

    def open_(**options):
        engines.append(open_engine(tmp_path / str(len(engines)), **options))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.disconnect()


def test_an_engine_on_disk_does_with_less(opened):
    engine = opened(threads=2, memory_limit="1000MB")
    leave_room(engine, 400_000_000)
    assert limit_of(engine) == pytest.approx(600e6, rel=0.01)


def test_each_of_its_threads_keeps_enough(opened):
    engine = opened(threads=3, memory_limit="1000MB")
    leave_room(engine, 400_000_000)
    assert limit_of(engine) == pytest.approx(750e6, rel=0.01)
    small = opened(threads=5, memory_limit="1000MB")
    leave_room(small, 400_000_000)
    assert limit_of(small) == pytest.approx(1000e6, rel=0.01)


def test_what_it_cannot_let_go_it_keeps(opened, monkeypatch):
    engine = opened(threads=1, memory_limit="1000MB")
    ask = engine.raw_sql

    def refuse(statement: str):
        if statement.startswith("SET memory_limit"):
            raise duckdb.OutOfMemoryException("Failed to change memory limit")
        return ask(statement)

    monkeypatch.setattr(engine, "raw_sql", refuse)
    leave_room(engine, 400_000_000)
    assert limit_of(engine) == pytest.approx(1000e6, rel=0.01)


def test_tables_in_memory_cannot_make_room(opened):
    engine = opened(threads=2, memory_limit="1000MB", text_bytes=1000)
    leave_room(engine, 400_000_000)
    assert limit_of(engine) == pytest.approx(1000e6, rel=0.01)


def test_no_limit_stays_none(opened):
    engine = opened(threads=1, memory_limit="2048TiB")
    before = engine.raw_sql("SELECT current_setting('memory_limit')").fetchone()
    leave_room(engine, 400_000_000)
    assert engine.raw_sql("SELECT current_setting('memory_limit')").fetchone() == before
