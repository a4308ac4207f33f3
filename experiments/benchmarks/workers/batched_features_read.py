"""Shards with an Example a row -> batches, by `make_batched_features_dataset` of TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from arrays import load_columns
from batches_worker import BatchesWorker
from worker_protocol import serve


def batches(options: dict) -> Iterator[int]:
    """Rows of each batch of the shards of "prepared", shuffled as the function does by default."""
    config = {"_label": tf.io.FixedLenFeature([], tf.int64)}
    for column in load_columns(options["arrays"]):
        dtype = tf.float32 if column["kind"] == "numeric" else tf.int64
        if column["length"] is None:
            config[column["name"]] = tf.io.FixedLenFeature([], dtype)
        else:  # padded to the longest of the batch
            config[column["name"]] = tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True)
    dataset = tf.data.experimental.make_batched_features_dataset(
        options["prepared"] + "/train-*.tfrecord",
        options["batch_size"],
        config,
        label_key="_label",
        reader_num_threads=2,
        parser_num_threads=2,
    )
    for _, labels in dataset:
        yield len(labels)


if __name__ == "__main__":
    serve(BatchesWorker(batches))
