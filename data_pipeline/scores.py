"""Teacher logits beside the shards of a data set: the format of sidecar files, and their checks.

A directory of scores holds `scores.json` and, for each shard, a TFRecord file with one record for
each record of the shard: the logits of its rows in their order, little-endian float32. Both layouts
are covered by that, and workers and folds divide scores as they divide the rows.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from clsd_tf.names import is_file_name
from data_pipeline.directories import whole_file
from data_pipeline.manifest import ShardInfo
from data_pipeline.shards import checksum

_FILE = "scores.json"


class ScoreError(RuntimeError):
    """Scores that are missing, damaged, unfinished, or of other rows."""


@dataclasses.dataclass(frozen=True)
class ScoreFile:
    """The sidecar of one shard.

    Attributes:
      file: name inside the directory of scores.
      shard: name of the shard.
      shard_sha256: checksum of the shard, as in the manifest of its data set.
      rows: logits in the file.
      sha256: checksum of the file, hexadecimal.
    """

    file: str
    shard: str
    shard_sha256: str
    rows: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_file_name(self.file):
            raise ValueError(f"A file of scores lies beside scores.json. Received: {self.file!r}.")


@dataclasses.dataclass(frozen=True)
class ScoreManifest:
    """`scores.json`: grows by an entry whenever a sidecar is whole.

    Attributes:
      model: identifies the model, or models, that gave the scores.
      files: sidecars that are whole.
    """

    model: str
    files: tuple[ScoreFile, ...] = ()

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> ScoreManifest | None:
        """Reads `scores.json` of `directory`; None if there is none.

        Raises:
          ScoreError: it cannot be read.
        """
        path = pathlib.Path(directory) / _FILE
        if not path.is_file():
            return None
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(raw["model"], tuple(ScoreFile(**entry) for entry in raw["files"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ScoreError(
                f"{path} is not a list of scores of this version. Received: {error}. Remove the "
                "directory and score the data set again with `clsd-score`."
            ) from error

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes `scores.json`, whole or not at all."""
        path = pathlib.Path(directory) / _FILE
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")

    def of_shard(self, shard: ShardInfo) -> ScoreFile | None:
        """The sidecar of `shard`; None if it is not there, or of other rows."""
        for entry in self.files:
            if (entry.shard, entry.shard_sha256, entry.rows) == (
                shard.file,
                shard.sha256,
                shard.rows,
            ):
                return entry
        return None


def sidecar_path(directory: str | pathlib.Path, shard: ShardInfo) -> pathlib.Path:
    """Where the scores of a shard are kept."""
    return pathlib.Path(directory) / f"{pathlib.Path(shard.file).stem}.scores.tfrecord"


def checked_sidecars(
    directory: str | pathlib.Path, shards: Sequence[ShardInfo]
) -> list[pathlib.Path]:
    """Paths of the sidecars of `shards`, each of them compared with its checksum.

    Raises:
      ScoreError: a sidecar is missing, damaged, or of other rows.
    """
    directory = pathlib.Path(directory)
    manifest = ScoreManifest.load(directory)
    if manifest is None:
        raise ScoreError(
            f"{directory} holds no scores. Received: no {_FILE} there. Expected: an --output_dir "
            "of `clsd-score`."
        )
    return [_checked(directory, manifest, shard) for shard in shards]


def _checked(directory: pathlib.Path, manifest: ScoreManifest, shard: ShardInfo) -> pathlib.Path:
    mend = "Score the data set again with `clsd-score`."
    entry = manifest.of_shard(shard)
    if entry is None:
        named = [entry for entry in manifest.files if entry.shard == shard.file]
        found = f"scores of another shard of that name, {named[0].rows} rows" if named else "none"
        raise ScoreError(
            f"{directory} lacks the scores of shard {shard.file}. Received: {found}. Expected: "
            f"{shard.rows} rows of the shard with checksum {shard.sha256[:12]}. {mend}"
        )
    path = directory / entry.file
    if not path.is_file():
        raise ScoreError(
            f"Scores {path} are missing. Received: no such file. Expected: {entry.rows} rows. "
            f"{mend}"
        )
    if (found := checksum(path)) != entry.sha256:
        raise ScoreError(
            f"Scores {path} are cut short or damaged. Received: checksum {found[:12]}. Expected: "
            f"{entry.sha256[:12]}. Remove the file. {mend}"
        )
    return path


def decode_logits(records: tf.Tensor) -> tf.Tensor:
    """Logits of the rows of several records: string `[records]` to float32 `[rows]`."""
    return tf.io.decode_raw(tf.strings.reduce_join(records), tf.float32, little_endian=True)
