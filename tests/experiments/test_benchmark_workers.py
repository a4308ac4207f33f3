"""Workers of the benchmark that compute something, as processes of their own."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import sys

import numpy as np
import pyarrow.csv as pa_csv
import pytest
import tensorflow as tf

from data_pipeline.data_set import WriteOptions
from data_pipeline.preparation import ReadOptions, prepare
from experiments.benchmarks.click_log import LogSize, make_log
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.worker_process import WORKERS, WorkerError, WorkerProcess


def worker_of(name: str, directory: pathlib.Path) -> WorkerProcess:
    return WorkerProcess(pathlib.Path(sys.executable), WORKERS / f"{name}.py", directory / "log")


def test_a_preparation_of_arrays_alone_writes_what_the_log_says(tmp_path):
    size = LogSize(rows=3000, categorical=3, numeric=2, vocabulary=50, history=4)
    log = make_log(tmp_path, size)
    options = {"log": str(log), "rows": 3000, "history": 4, "output_dir": str(tmp_path / "out")}
    with worker_of("bare_prepare", tmp_path) as worker:
        worker.prepare(options)
        assert worker.run(1)["examples"] == 3000
    table_of_log = pa_csv.read_csv(log / "log.csv")
    raw = {name: table_of_log[name].to_pylist() for name in table_of_log.column_names}
    expected = []
    for name in ("user_id", "item_id", "c02"):
        counts = collections.Counter(raw[name][:2400])
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        ids = {token: number for number, token in enumerate(ranked, start=2)}
        expected.append([ids.get(token, 1) for token in raw[name]])
    past: dict[int, list[int]] = collections.defaultdict(list)
    lists = []
    for user, item, click in zip(raw["user_id"], expected[1], raw["click"], strict=True):
        recent = past[user][-4:]
        lists.append((*recent, *[0] * (4 - len(recent))))
        past[user] += [item] * click
    rows = [tuple(row) for row in zip(*expected, raw["click"], lists, strict=True)]

    written = np.fromfile(tmp_path / "out" / "rows.bin", np.int32)
    columns, clicks = written[: 5 * 3000].reshape(5, -1), written[5 * 3000 : 6 * 3000]
    received_lists = map(tuple, written[6 * 3000 :].reshape(3000, 4).tolist())
    received = [*zip(*columns[:3].tolist(), clicks.tolist(), received_lists, strict=True)]
    assert received[2400:] == rows[2400:]  # of the test split, in order
    assert received[:2400] != rows[:2400]
    assert collections.Counter(received[:2400]) == collections.Counter(rows[:2400])
    numbers = columns[3:].view(np.float32)
    for name, values in zip(("x0", "x1"), numbers, strict=True):
        train = np.array(raw[name][:2400])
        scaled = (np.array(raw[name]) - train.mean()) / train.std()
        np.testing.assert_allclose(values[2400:], scaled[2400:], atol=1e-4)
        np.testing.assert_allclose(np.sort(values[:2400]), np.sort(scaled[:2400]), atol=1e-4)


def test_parquet_looks_at_its_checksums_where_it_is_asked_to(tmp_path, encoded_arrays):
    options = {"arrays": str(encoded_arrays), "batch_size": 500, "tensors": False}
    with worker_of("parquet_read", tmp_path) as worker:
        worker.prepare({**options, "checked": True})
        assert worker.run(3)["examples"] == 1500
    (file,) = encoded_arrays.glob("*.parquet")
    damaged = bytearray(file.read_bytes())
    place = damaged.index(np.arange(100, 200, dtype=np.int32).tobytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)
    for checked in (False, True):
        with worker_of("parquet_read", tmp_path) as worker:
            worker.prepare({**options, "checked": checked})
            if checked:
                with pytest.raises(WorkerError, match="(?i)crc"):
                    worker.run(80)  # all row groups
            else:
                worker.run(80)


def test_rates_of_the_machine(tmp_path):
    options = {"rows": 64, "inner": 8, "columns": 3, "vocabulary": 50, "dim": 4}
    with worker_of("machine_rates", tmp_path) as worker:
        worker.prepare(options)
        answer = worker.run(5)
    rates = {field.name: answer[field.name] for field in dataclasses.fields(MachineRates)}
    assert all(1e3 < rate < 1e15 for rate in rates.values())


def test_a_peer_in_plain_python_writes_the_rows_that_we_write(tmp_path):
    size = LogSize(rows=3000, categorical=3, numeric=2, vocabulary=50, history=4)
    log = make_log(tmp_path, size)
    lines = (log / "log.csv").read_text().splitlines(keepends=True)
    lines += [lines[7], lines[9].replace(",", ",x", 1)]  # one that is there, and a bad one
    (log / "log.csv").write_text("".join(lines))
    prepare(str(log / "spec.toml"), str(log), tmp_path / "own", ReadOptions(), WriteOptions("row"))
    options = {"log": str(log), "rows": 3002, "history": 4, "output_dir": str(tmp_path / "peer")}
    with worker_of("proto_pipeline", tmp_path) as worker:
        worker.prepare(options)
        assert worker.run(1)["examples"] == 3002
    for split in ("train", "valid", "test"):
        ours, theirs = written(tmp_path / "own", split), written(tmp_path / "peer", split)
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"_row", "_user"}:
            if name.startswith("x"):
                np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4)
            else:
                assert ours[name] == theirs[name]
    (bad,) = (tmp_path / "peer" / "bad_rows.csv").read_text().splitlines()
    assert bad.startswith(lines[-1].strip().replace('"', ""))


def written(directory: pathlib.Path, split: str) -> dict[str, list[list[float]]]:
    """What the records of a split hold, in the order of time."""
    columns = collections.defaultdict(list)
    for path in sorted(directory.glob(f"{split}*.tfrecord")):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            for name, feature in tf.train.Example.FromString(record).features.feature.items():
                values = getattr(feature, feature.WhichOneof("kind") or "int64_list").value
                columns[name].append(list(values))
    order = sorted(range(len(columns["_row"])), key=lambda i: columns["_row"][i])
    return {name: [values[i] for i in order] for name, values in columns.items()}
