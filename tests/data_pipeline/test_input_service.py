"""The input service, as real processes: batches are those of a trainer that reads by itself.

Services, workers and dispatchers are killed and started again; nothing that happens to them may
change what is read, and nothing may wait without end.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.input_service import _held_back
from data_pipeline.reader import ShardError, make_dataset, read_errors
from data_pipeline.served_batches import Order, served_batches, service_errors
from data_pipeline.service_client import InputService, InputServiceError
from tests.services import ROOT, ServiceProcess, free_port

BATCHES, ROWS = 64, 1 << 15  # 128 KiB each: eight fill the smallest cache


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[InputService]:
    """One with the smallest cache."""
    with ServiceProcess(tmp_path_factory.mktemp("service"), "--cache_mb=1") as process:
        yield InputService(process.address)


@pytest.fixture
def told(caplog) -> Callable[[], list[str]]:
    """What was logged so far."""
    caplog.set_level(logging.WARNING, logger="absl")
    return lambda: [record.getMessage() for record in caplog.records]


def numbers(name: str, *, start: int = 0, batches: int = BATCHES, rows: int = ROWS) -> Order:
    """An order whose batches hold their number."""

    def batches_from(first: int | tf.Tensor) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(first, batches)
        return numbers.map(lambda number: {"x": tf.fill([rows], tf.cast(number, tf.int32))})

    return Order({"name": name}, 0, start, batches, batches_from)


def read(dataset: tf.data.Dataset, *, pause: float = 0.0) -> Iterator[int]:
    """Numbers of the batches."""
    for batch in dataset:
        yield int(batch["x"][0])
        time.sleep(pause)


def arrays_of(dataset: tf.data.Dataset) -> list[list[np.ndarray]]:
    return [tf.nest.flatten(batch) for batch in dataset.as_numpy_iterator()]


def assert_same(received: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> None:
    assert len(received) == len(expected)
    for ours, theirs in zip(received, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("columnar", {"seed": 3, "epochs": 3, "skip_batches": 7}),
        ("row", {"seed": 3, "epochs": 2, "extra_columns": ["_row", "long_view"]}),
        ("columnar", {"shuffle": False, "drop_remainder": True, "without_fold": (0, 2)}),
        ("columnar", {"num_batches": 9, "num_workers": 2, "worker_index": 1, "columns": ["price"]}),
    ],
)
def test_batches_are_those_without_it(generate, service, told, layout, options):
    directory = generate(150).write("log", layout=layout)
    expected = arrays_of(make_dataset(directory, "train", 32, **options))
    through = make_dataset(directory, "train", 32, **options, service=service)
    assert through.cardinality() == len(expected)
    assert_same(arrays_of(through), expected)
    assert told() == []
    assert_same(arrays_of(through), expected)  # a second time the service is past it
    assert "From batch " in told()[0]


def test_what_one_trainer_has_read_another_finds(generate, service):
    directory = generate(150).write("log")
    options = {"seed": 5, "service": service}
    first, second, other = (
        make_dataset(directory, "train", 32, **{**options, "seed": seed}) for seed in (5, 5, 6)
    )
    expected = arrays_of(first)
    for shard in directory.glob("*.tfrecord"):  # so nobody can read them now
        shard.rename(shard.with_suffix(".away"))
    assert_same(arrays_of(second), expected)
    with (
        pytest.raises(InputServiceError, match="Received: .*train-0.* Expected: .* same path"),
        service_errors(service, directory),
    ):
        arrays_of(other)  # another order, which nobody has read


def test_a_damaged_shard_is_told_as_without_it(generate, service):
    directory = generate(150).write("log")
    shard = sorted(directory.glob("*.tfrecord"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    sentences = []
    for reader in (None, service):
        dataset = make_dataset(directory, "train", 32, service=reader)
        with (
            pytest.raises(ShardError) as error,
            read_errors(directory),
            service_errors(reader, directory),
        ):
            arrays_of(dataset)
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1]
    assert str(shard) in sentences[0]


def test_who_comes_too_late_reads_the_rest_by_itself(service, told):
    assert [*read(served_batches(service, numbers("late")))] == [*range(BATCHES)]
    assert told() == []
    late = served_batches(service, numbers("late", start=3))
    assert [*read(late)] == [*range(3, BATCHES)]
    (sentence,) = told()
    assert "From batch 3 on the shards are read without the input service" in sentence


def test_trainers_of_unequal_speed_see_every_batch(service):
    seen: dict[float, list[int]] = {}

    def train(pause: float) -> None:
        seen[pause] = [*read(served_batches(service, numbers("unequal")), pause=pause)]

    trainers = [threading.Thread(target=train, args=[pause]) for pause in (0.0, 0.002, 0.03)]
    for trainer in trainers:
        trainer.start()
    for trainer in trainers:
        trainer.join()
    assert seen == {pause: [*range(BATCHES)] for pause in seen}
    assert len(seen) == 3


@pytest.mark.slow
def test_a_worker_is_killed_and_another_takes_its_place(tmp_path, told):
    port = free_port()
    roles = (f"--port={port}", "--role=dispatcher", f"--work_dir={tmp_path / 'journal'}")
    with contextlib.ExitStack() as stack:
        dispatcher = stack.enter_context(ServiceProcess(tmp_path, *roles))
        joins = ("--role=worker", f"--dispatcher={dispatcher.address}")
        worker = stack.enter_context(ServiceProcess(tmp_path, *joins))
        assert worker.address == dispatcher.address
        service = InputService(dispatcher.address, patience_seconds=60)
        reading = read(served_batches(service, numbers("killed")))
        received = [next(reading) for _ in range(5)]
        worker.end(signal.SIGKILL)
        received += [next(reading) for _ in range(2)]  # on their way already
        stack.enter_context(ServiceProcess(tmp_path, *joins))
        received += [next(reading) for _ in range(20)]
        dispatcher.end(signal.SIGKILL)
        dispatcher = stack.enter_context(ServiceProcess(tmp_path, *roles))
        received += reading
        assert received == [*range(BATCHES)]
        assert told() == []
        again = served_batches(service, numbers("after a restart"))
        assert [*read(again)] == [*range(BATCHES)]
        assert dispatcher.end(signal.SIGTERM) == 0


def test_a_service_that_is_gone_is_told_in_time(tmp_path):
    with ServiceProcess(tmp_path) as process:
        service = InputService(process.address, patience_seconds=1)
        reading = read(served_batches(service, numbers("gone")))
        received = [next(reading)]
        process.end(signal.SIGKILL)
        started = time.monotonic()
        with (
            pytest.raises(InputServiceError, match="Received: nothing from it for 1 s. Expected"),
            service_errors(service, tmp_path),
        ):
            received += reading
        assert received == [*range(len(received))]
        with pytest.raises(InputServiceError, match="no connection"):  # as the next epoch does
            served_batches(service, numbers("next"))
        del reading
        assert time.monotonic() - started < 60


TRAINER = """
import signal, sys
from data_pipeline.served_batches import served_batches
from data_pipeline.service_client import InputService
from tests.data_pipeline.test_input_service import numbers

# It is ignored where tests run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
service = InputService(sys.argv[1], patience_seconds=1)
batches = iter(served_batches(service, numbers("trainer", batches=1 << 20, rows=10)))
print(next(batches), flush=True)
while sys.argv[2] == "goes on":
    next(batches)
raise ValueError("It has read enough.")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "to_trainer", "to_service", "told"),
    [
        ("stops", None, None, "ValueError: It has read enough."),
        ("goes on", signal.SIGINT, None, "KeyboardInterrupt"),
        ("goes on", None, signal.SIGKILL, "InputServiceError"),
    ],
)
def test_a_trainer_ends_with_an_iterator_at_hand(tmp_path, what, to_trainer, to_service, told):
    with (
        ServiceProcess(tmp_path) as process,
        subprocess.Popen(
            [sys.executable, "-c", TRAINER, process.address, what],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as trainer,
    ):
        assert "tf.Tensor" in trainer.stdout.readline()
        for _ in range(5 if to_trainer is not None else 0):
            # One that comes at the first batch may be lost in TensorFlow, here as elsewhere.
            trainer.send_signal(to_trainer)
            with contextlib.suppress(subprocess.TimeoutExpired):
                trainer.wait(4)
                break
        if to_service is not None:
            process.end(to_service)
        try:
            _, errors = trainer.communicate(timeout=60)
        finally:
            trainer.kill()
        assert trainer.returncode != 0
        assert told in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(tmp_path, number):
    journal = tmp_path / "journal"
    with ServiceProcess(tmp_path, f"--work_dir={journal}") as process:
        assert process.end(number) == 0
    assert not list(tmp_path.glob(".*"))


def test_a_worker_that_waits_for_its_dispatcher_ends_by_a_signal():
    address = f"grpc://localhost:{free_port()}"
    command = ["-m", "data_pipeline.input_service", "--role=worker", f"--dispatcher={address}"]
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdout.readline() == f"Waiting for the dispatcher at {address}.\n"
            worker.terminate()
            assert worker.wait(20) == 0
        finally:
            worker.kill()


def test_signals_while_it_ends_are_not_heard_after_that():
    with _held_back(frozenset({signal.SIGINT})):
        signal.raise_signal(signal.SIGINT)
        assert signal.sigwait({signal.SIGINT}) == signal.SIGINT
        signal.raise_signal(signal.SIGINT)  # would be a KeyboardInterrupt


def test_a_worker_does_not_wait_for_another_kind_of_server():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with pytest.raises(InputServiceError, match=r"joins a dispatcher.*UNIMPLEMENTED.*--role="):
            InputService(f"grpc://localhost:{port}").has_dispatcher()
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (None, "no connection"),
        (b"", "no answer within 0.5 s"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no connection|another kind of server"),
    ],
)
def test_what_does_not_answer_is_told_in_time(monkeypatch, answer, received):
    monkeypatch.setattr("data_pipeline.service_client._ANSWER_SECONDS", 0.5)
    with socket.create_server(("localhost", 0)) as server:
        address = f"grpc://localhost:{server.getsockname()[1]}"
        if answer is None:
            server.close()
        elif answer:
            threading.Thread(target=answer_once, args=[server, answer], daemon=True).start()
        started = time.monotonic()
        with pytest.raises(InputServiceError, match=f"Received: ({received}).*Expected: .*grpc://"):
            InputService(address).require()
        assert time.monotonic() - started < 10


def answer_once(server: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)


@pytest.mark.slow
def test_a_dispatcher_without_workers_is_told(tmp_path):
    with (
        ServiceProcess(tmp_path, "--role=dispatcher") as process,
        pytest.raises(InputServiceError, match="a dispatcher without a worker"),
    ):
        InputService(process.address, patience_seconds=1).require()


@pytest.mark.parametrize(
    "address", ["localhost:7077", "grpc://localhost", "grpc://:1", "grpc://h:0", "grpc://h/x:1"]
)
def test_an_address_is_one(address):
    with pytest.raises(ValueError, match=f"Received: '{address}'. Expected: .*grpc://host:port"):
        InputService(address)


def test_orders_have_names_of_their_own(generate):
    assert numbers("a").name == numbers("a", start=5).name  # who resumes shares it
    assert numbers("a").name != numbers("b").name
    assert numbers("a").name != numbers("a", batches=5).name


def test_nothing_is_asked_where_there_is_nothing_to_read():
    nowhere = InputService(f"grpc://localhost:{free_port()}")
    assert [*read(served_batches(nowhere, numbers("end", start=BATCHES)))] == []
