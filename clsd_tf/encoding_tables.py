"""What an encoding learns from training rows, and the files in which it is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from typing import ClassVar

import pydantic

from clsd_tf.features import ClickLogSpec

SPEC, _TABLES, _VOCABULARIES = "spec.toml", "encoding.json", "vocab"


@dataclasses.dataclass
class EncodingTables:
    """What an encoding learns from the training split.

    Attributes:
      vocabulary_sizes: tokens in `vocab/<column>.txt`, most frequent first.
      boundaries: rising bucket boundaries, rounded to float32.
      moments: mean and standard deviation after the column's log scaling.
    """

    vocabulary_sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    boundaries: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    moments: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    # What another version has added must not be passed over.
    __pydantic_config__: ClassVar = pydantic.ConfigDict(extra="forbid")

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `encoding.json`; the vocabularies are files of their own."""
        path = pathlib.Path(directory) / _TABLES
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> EncodingTables:
        """Reads `encoding.json`. Raises ValueError if it is damaged."""
        path = pathlib.Path(directory) / _TABLES
        try:
            return pydantic.TypeAdapter(cls).validate_json(path.read_bytes())
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise _damaged(path, f"{place}: {first['msg']}" if place else first["msg"]) from error

    def check(self, spec: ClickLogSpec, directory: str | pathlib.Path) -> None:
        """Raises ValueError unless there is what each column of `spec` needs."""
        for column in map(spec.owner, spec.encoded_columns):
            needed = {
                "vocabulary_sizes": column.encoding == "vocabulary",
                "boundaries": column.quantiles is not None,
                "moments": column.scaling in ("standard", "log_standard"),
            }
            for table, is_needed in needed.items():
                if is_needed and column.name not in getattr(self, table):
                    path = pathlib.Path(directory) / _TABLES
                    raise _damaged(path, f"no {table} of column '{column.name}'")


def _damaged(path: pathlib.Path, received: str) -> ValueError:
    return ValueError(
        f"{path} is damaged, or of another version. Received: {received}. Expected: what "
        "`clsd-prepare` wrote. Copy the directory as a whole, or prepare the log again."
    )


def vocabulary_path(directory: str | pathlib.Path, column: str) -> pathlib.Path:
    """Where the vocabulary of `column` is kept: one token a line."""
    return pathlib.Path(directory) / _VOCABULARIES / f"{column}.txt"


def copy_encoding(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    """Copies spec, tables and vocabularies, so that a run can be exported without its data."""
    source, target = pathlib.Path(source), pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name in (SPEC, _TABLES):
        _copy_whole(source / name, target / name)
    if (source / _VOCABULARIES).is_dir():  # a spec of hashes and buckets has none
        shutil.copytree(
            source / _VOCABULARIES,
            target / _VOCABULARIES,
            copy_function=_copy_whole,
            dirs_exist_ok=True,
        )


def _copy_whole(source: str | pathlib.Path, target: str | pathlib.Path) -> None:
    """Copies a file, which appears whole or not at all."""
    target = pathlib.Path(target)
    beside = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, beside)
    os.replace(beside, target)
