"""Raw rows of a log as `prepare` had them before it encoded them: what a client would send.

Read, checked, joined, split and given histories by the same steps; the encoding is left out.
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clsd_tf.encoding import Encoder, missing_value
from clsd_tf.features import ColumnSpec
from clsd_tf.parsing import serving_columns
from clsd_tf.requests import Row, mask_name
from data_pipeline.activity import add_activity
from data_pipeline.data_set import WriteOptions
from data_pipeline.engines import keep_table, open_engine
from data_pipeline.groups import add_group
from data_pipeline.history import click_histories
from data_pipeline.loading import load_impressions
from data_pipeline.manifest import Manifest
from data_pipeline.noise import plant_noise
from data_pipeline.noise_base import NoisyLog
from data_pipeline.split_batches import split_batches
from data_pipeline.splits import add_split

_NO_BAD_ROW_STOPS = 1.0  # the data set was prepared: its own limit has been kept


@contextlib.contextmanager
def raw_batches(
    data_dir: str | pathlib.Path, inputs: str | pathlib.Path, split: str
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Reads a split of a raw log by the options that a data set was prepared with.

    Args:
      data_dir: the data set, prepared from the same log.
      inputs: file, glob or directory of the log.
      split: "train", "valid" or "test".

    Yields:
      Batches in the order of the shards: `_row`, and raw columns with null where missing.

    Raises:
      FileNotFoundError: there is no log.
      ValueError: log and spec do not fit.
    """
    manifest, encoder = Manifest.load(data_dir), Encoder.load(data_dir)
    spec, read = encoder.spec, manifest.prepared["read"]
    write = WriteOptions(**manifest.prepared["write"])
    with tempfile.TemporaryDirectory() as place:
        engine = open_engine(pathlib.Path(place) / "engine")
        try:
            loaded = load_impressions(
                engine,
                spec,
                inputs,
                pathlib.Path(place),
                max_bad_fraction=_NO_BAD_ROW_STOPS,
                first_day=read["first_day"],
                last_day=read["last_day"],
            )
            rows = add_activity(add_split(loaded.impressions, spec), spec)
            rows = add_group(engine, keep_table(engine, "divided_rows", rows), encoder)
            if (kind := write.planted) is not None:  # planted clicks are in the histories
                log = NoisyLog(engine, spec, encoder.group_names(), write.noise_seed)
                rows = keep_table(engine, "noisy_rows", plant_noise(log, rows, kind))
            histories = None
            if spec.history is not None:
                histories = click_histories(engine, rows, spec, pathlib.Path(place))
            yield split_batches(engine, rows, histories, spec, split, write.seed)
        finally:
            engine.disconnect()


def dense_inputs(batch: pa.RecordBatch, encoder: Encoder) -> dict[str, np.ndarray]:
    """Inputs of the export's `predict_features` for a batch of raw rows."""
    inputs: dict[str, np.ndarray] = {}
    for column in serving_columns(encoder.spec):
        values = batch.column(column.name)
        if column.is_list:
            inputs |= _dense_list(column, values)
        else:
            inputs[column.name] = _filled(column, values)
    return inputs


def rows_of(batch: pa.RecordBatch, encoder: Encoder) -> list[Row]:
    """The raw rows of a batch, column by name; see `clsd_tf.requests`."""
    names = [column.name for column in serving_columns(encoder.spec)]
    return batch.select(names).to_pylist()


def _dense_list(column: ColumnSpec, values: pa.Array) -> dict[str, np.ndarray]:
    elements = _filled(column, values.flatten())
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths, dtype=np.int64)
    kept = np.minimum(lengths, column.max_length)
    begins = ends - lengths if column.keep == "first" else ends - kept
    places = np.arange(column.max_length)
    mask = places < kept[:, np.newaxis]
    missing = b"" if column.type == "string" else missing_value(column)
    dense = np.full(mask.shape, missing, elements.dtype)
    dense[mask] = elements[(begins[:, np.newaxis] + places)[mask]]
    return {column.name: dense, mask_name(column): mask}


def _filled(column: ColumnSpec, values: pa.Array) -> np.ndarray:
    filled = values.fill_null(missing_value(column))
    if column.type == "string":
        return np.array([text.encode() for text in filled.to_pylist()], object)
    types = {"int": pa.int64(), "float": pa.float32()}
    return filled.cast(types[column.type]).to_numpy(zero_copy_only=False)
