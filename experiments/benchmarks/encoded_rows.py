"""Encoded training rows of a prepared data set -> `.npy` files that any framework loads.

A script for a process of its own: its arguments are the data set and an existing directory.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

from clsd_tf.encoding import Encoder
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset


def write_arrays(prepared: pathlib.Path, directory: pathlib.Path) -> None:
    """Writes `columns.json`, a file for each column, and the labels; ids are int32."""
    features = Encoder.load(prepared).model_features
    rows = Manifest.load(prepared).rows["train"]
    columns = [
        {
            "name": feature.name,
            "kind": feature.kind,
            "cardinality": feature.cardinality,
            "length": feature.length,
            "table": feature.table,
            "role": feature.role,
        }
        for feature in features
    ]
    files = {
        feature.name: np.lib.format.open_memmap(
            directory / f"{feature.name}.npy",
            mode="w+",
            dtype=np.float32 if feature.kind == "numeric" else np.int32,
            shape=(rows,) if feature.length is None else (rows, feature.length),
        )
        for feature in features
    }
    files["_label"] = np.lib.format.open_memmap(
        directory / "_label.npy", mode="w+", dtype=np.float32, shape=(rows,)
    )
    start = 0
    for batch, labels, _ in make_dataset(prepared, "train", 32768, shuffle=False):
        end = start + len(labels)
        for name, values in files.items():
            values[start:end] = labels if name == "_label" else batch[name]
        start = end
    for values in files.values():
        values.flush()
    (directory / "columns.json").write_text(json.dumps(columns, indent=2) + "\n")


if __name__ == "__main__":
    write_arrays(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
