"""A small generated click log with every encoding, its missing values included."""

from __future__ import annotations

import dataclasses
import pathlib
import random
from collections.abc import Callable

import pyarrow as pa
import pytest

from clsd_tf.encoding import Encoder, EncodingTables, vocabulary_path
from clsd_tf.features import ClickLogSpec
from data_pipeline.manifest import Manifest
from data_pipeline.shards import write_split

SPEC = """
name = "generated"
[split]
by = "time"
[history]
length = 4
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary", num_oov = 3 }
city = { type = "string", encoding = "vocabulary", default = "Ulm" }
scene = { type = "int", encoding = "identity", num_values = 4 }
device = { type = "int", encoding = "hash", num_buckets = 50 }
age = { type = "float", encoding = "buckets", boundaries = [18.0, 30.0] }
price = { type = "float", encoding = "numeric", scaling = "log_standard" }
tags = { type = "int", encoding = "hash", num_buckets = 9, max_length = 3, keep = "first" }
activity = { role = "group", type = "int", encoding = "buckets", boundaries = [5.0, 9.0] }
propensity = { role = "weight", type = "float" }
click = { role = "label", type = "int" }
long_view = { role = "satisfaction", type = "float" }
time_ms = { role = "timestamp", type = "int" }
"""
VOCABULARIES = {
    "user_id": ["3", "1", "4", "15"],
    "item_id": ["apple", "pear", "fig", "Öl"],
    "city": ["Bonn", "Ulm"],
}
PRICE_MOMENTS = (1.5, 0.5)


@dataclasses.dataclass
class GeneratedLog:
    """Rows as plain dicts, the same rows as Arrow batches, and an encoder for them."""

    rows: list[dict]
    encoder: Encoder
    directory: pathlib.Path

    @property
    def spec(self) -> ClickLogSpec:
        """The log's spec."""
        return self.encoder.spec

    def batches(self, size: int = 37) -> list[pa.RecordBatch]:
        """The rows in Arrow batches of `size`."""
        types = {"int": pa.int64(), "float": pa.float32(), "string": pa.string()}
        fields = [("_row", pa.int64()), ("_day", pa.string())]
        for column in self.spec.columns:
            scalar = types[column.type]
            fields.append((column.name, pa.list_(scalar) if column.is_list else scalar))
        table = pa.Table.from_pylist(self.rows, schema=pa.schema(fields))
        return table.to_batches(max_chunksize=size)

    def write(self, name: str, **options: object) -> pathlib.Path:
        """Writes the rows as the split "train" of a data set of its own and returns its path."""
        target = self.directory / name
        _write_encoding(target)
        defaults = {"num_shards": 3, "layout": "columnar", "block_rows": 16}
        options = {**defaults, **options}
        shards = write_split(
            self.batches(), target, "train", self.encoder, rows=len(self.rows), **options
        )
        rows = {"train": len(self.rows), "valid": 0}
        layout, block_rows = options["layout"], options["block_rows"]
        Manifest(self.spec.name, layout, block_rows, rows, tuple(shards)).save(target)
        return target


@pytest.fixture
def generate(tmp_path: pathlib.Path) -> Callable[[int], GeneratedLog]:
    """Makes a log of so many rows."""
    encoding = tmp_path / "encoding"
    _write_encoding(encoding)
    encoder = Encoder.load(encoding)
    return lambda num_rows: GeneratedLog(
        [_row(i, random.Random(i)) for i in range(num_rows)], encoder, tmp_path
    )


def _write_encoding(directory: pathlib.Path) -> None:
    (directory / "vocab").mkdir(parents=True)
    (directory / "spec.toml").write_text(SPEC, encoding="utf-8")
    for column, tokens in VOCABULARIES.items():
        path = vocabulary_path(directory, column)
        path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    sizes = {column: len(tokens) for column, tokens in VOCABULARIES.items()}
    EncodingTables(vocabulary_sizes=sizes, moments={"price": PRICE_MOMENTS}).save(directory)


def _row(number: int, rng: random.Random) -> dict:
    items = [*VOCABULARIES["item_id"], "kiwi", "plum"]
    maybe = lambda value: None if rng.random() < 0.2 else value  # noqa: E731
    return {
        "_row": number,
        "_day": f"2022-05-0{number % 3 + 1}",
        "user_id": rng.choice([3, 1, 4, 15, 9]),
        "item_id": rng.choice(items),
        "city": maybe(rng.choice(["Bonn", "Ulm", "Kyiv"])),
        "scene": maybe(rng.randrange(-1, 6)),
        "device": maybe(rng.randrange(1000)),
        "age": maybe(rng.choice([17.5, 18.0, 29.0, 30.0, 99.0])),
        "price": maybe(rng.choice([0.0, 1.0, 7.25])),
        "tags": maybe([maybe(rng.randrange(30)) for _ in range(rng.randrange(6))]),
        "click_history": maybe([rng.choice(items) for _ in range(rng.randrange(8))]),
        "activity": maybe(rng.randrange(12)),
        "propensity": rng.choice([0.5, 1.0]),
        "click": rng.randrange(2),
        "long_view": maybe(float(rng.randrange(2))),
        "time_ms": 1_650_000_000_000 + number,
    }
