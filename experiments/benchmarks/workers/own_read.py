"""Shards of this project -> batches, by `data_pipeline.reader`."""

from __future__ import annotations

from collections.abc import Iterator

from batches_worker import BatchesWorker
from worker_protocol import serve

from data_pipeline.reader import make_dataset
from data_pipeline.service_client import InputService


def batches(options: dict) -> Iterator[int]:
    """Rows of each batch of "prepared" in batches of "batch_size", maybe by a "service"."""
    service = InputService(options["service"]) if "service" in options else None
    where = (options["prepared"], "train", options["batch_size"])
    dataset = make_dataset(*where, epochs=10_000, service=service)
    for _, labels, _ in dataset:
        yield len(labels)


if __name__ == "__main__":
    serve(BatchesWorker(batches))
