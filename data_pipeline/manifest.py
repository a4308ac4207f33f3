"""What a prepared directory holds: its manifest, read and written, with errors that explain."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Literal, get_args

from clsd_tf.names import is_file_name
from data_pipeline.directories import whole_file

Layout = Literal["columnar", "row"]
_FILE = "manifest.json"


class ShardError(RuntimeError):
    """Shards that are missing, cut short, damaged, or not what their manifest says."""


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One shard as it was written.

    Attributes:
      file: name inside the prepared directory.
      split: "train", "valid" or "test".
      rows: impressions in it.
      bytes: size of the file.
      sha256: checksum of the file, hexadecimal.
    """

    file: str
    split: str
    rows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_file_name(self.file) or self.split not in ("train", "valid", "test"):
            raise ValueError(
                f"A shard is a file beside its manifest. Received: {self.file!r} of split "
                f"{self.split!r}."
            )
        for name in ("rows", "bytes"):
            _require_count(f"{name} of {self.file}", getattr(self, name), 1)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """`manifest.json` of a prepared directory.

    Attributes:
      name: name of the spec.
      layout: how records are laid out, see `data_pipeline.shard_format`.
      block_rows: impressions in a record of the columnar layout; the last of a shard has fewer.
      rows: split -> impressions; a split without rows has a 0 and no shard.
      shards: in the order of their rows.
      source: files that were read, each with `file` and `bytes`.
      noise: what was planted, or None.
      prepared: `input` and the other options of `prepare`, so that it can be made again otherwise.
      versions: package -> version that wrote the shards.
    """

    name: str
    layout: Layout
    block_rows: int
    rows: dict[str, int]
    shards: tuple[ShardInfo, ...]
    source: tuple[dict[str, str | int], ...] = ()
    noise: dict | None = None
    prepared: dict = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ValueError(
                f"Unknown shard layout. Received: {self.layout!r}. Expected one of: "
                f"{', '.join(get_args(Layout))}."
            )
        _require_count("block_rows", self.block_rows, 1)

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> Manifest:
        """Reads the manifest of `directory`.

        Raises:
          ShardError: `directory` is not a prepared data set, or its manifest is damaged.
        """
        path = pathlib.Path(directory) / _FILE
        hint = "Expected: an `--output_dir` of `clsd-prepare`; prepare the log first."
        if not path.parent.is_dir():
            raise ShardError(
                f"There is no prepared data set. Received: no folder {directory}. {hint}"
            )
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in path.parent.iterdir())[:5]) or "nothing"
            raise ShardError(
                f"Not a prepared data set: {directory} has no {_FILE}. Received: a folder with "
                f"{found}. {hint}"
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            shards = tuple(ShardInfo(**shard) for shard in raw.pop("shards"))
            source = tuple(raw.pop("source", ()))
            manifest = cls(shards=shards, source=source, **raw)
            written = dict.fromkeys(manifest.rows, 0)
            for shard in shards:
                written[shard.split] += shard.rows
            if written != manifest.rows:
                raise ValueError(f"splits of {manifest.rows} rows with shards of {written}")
            return manifest
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ShardError(
                f"{path} is damaged, or no manifest of this version. Received: {error}. Prepare "
                "the log again with `--overwrite`."
            ) from error

    def save(self, directory: str | pathlib.Path) -> pathlib.Path:
        """Writes `manifest.json` beside the shards, whole or not at all; returns its path."""
        path = pathlib.Path(directory) / _FILE
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")
        return path

    def of_split(self, split: str) -> tuple[ShardInfo, ...]:
        """The shards of `split`, none if it has no rows. Raises ValueError if there is no split."""
        if split not in self.rows:
            raise ValueError(
                f"Unknown split. Received: {split!r}. Expected one of: {', '.join(self.rows)}."
            )
        return tuple(shard for shard in self.shards if shard.split == split)


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}. Received: {value!r}.")


def data_checksum(data_dir: str | pathlib.Path) -> str:
    """Identifies the rows of a prepared data set: SHA-256 of its manifest, hexadecimal."""
    shards = [dataclasses.asdict(shard) for shard in Manifest.load(data_dir).shards]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()
