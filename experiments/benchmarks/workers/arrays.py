"""Encoded rows as every worker takes them: a `.npy` file a column, and `columns.json`.

`columns.json` lists {"name", "kind": "categorical" or "numeric", "cardinality", "length", "table",
"role"}; length is that of a list, None for a scalar. The label is `_label.npy`.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np

LABEL = "_label"
BATCHES = 8  # that training steps take in turns


def load_columns(directory: str, lists: bool = True) -> list[dict]:
    """Descriptions of the columns of a directory, without lists if they are not wanted."""
    columns = json.loads((pathlib.Path(directory) / "columns.json").read_text())
    return [column for column in columns if lists or column["length"] is None]


def load_arrays(
    directory: str, columns: list[dict], rows: int | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Column -> values `[rows]` or `[rows, length]`, and labels `[rows]`; ids are int32."""
    paths = {column["name"]: pathlib.Path(directory, f"{column['name']}.npy") for column in columns}
    arrays = {name: np.load(path, mmap_mode="r")[:rows] for name, path in paths.items()}
    return arrays, np.load(pathlib.Path(directory) / f"{LABEL}.npy", mmap_mode="r")[:rows]
