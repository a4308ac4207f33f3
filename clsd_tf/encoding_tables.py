"""What an encoding learns from training rows, and the files in which it is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil

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

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `encoding.json`; the vocabularies are files of their own."""
        path = pathlib.Path(directory) / _TABLES
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> EncodingTables:
        """Reads `encoding.json`. Raises ValueError if it is damaged."""
        path = pathlib.Path(directory) / _TABLES
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            raw["moments"] = {name: tuple(pair) for name, pair in raw["moments"].items()}
            return cls(**raw)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged, or of another version. Received: {error!r}. Copy the "
                "directory as a whole, or prepare the log again."
            ) from error


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
