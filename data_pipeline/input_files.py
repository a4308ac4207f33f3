"""Which files a log, or a side table of it, is read from."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import glob
import gzip
import os
import pathlib
import zlib
from collections.abc import Collection, Iterable
from typing import Literal

Format = Literal["csv", "parquet", "json"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".ndjson": "json",
    ".ndjson.gz": "json",
    ".json": "json",
    ".json.gz": "json",
}


@dataclasses.dataclass(frozen=True)
class InputFiles:
    """Files with the same kind of rows.

    Attributes:
      directory: where the log is; side tables are looked for from here.
      paths: in the order in which they are read, that of their names.
      extension: of all of them, a key of `FORMATS`.
      title: what they hold, for messages.
    """

    directory: pathlib.Path
    paths: tuple[pathlib.Path, ...]
    extension: str
    title: str

    @property
    def format(self) -> Format:
        """How the files are read."""
        return FORMATS[self.extension]

    def name(self, path: pathlib.Path) -> str:
        """What `path` is called in messages and tables: its place below the directory."""
        return pathlib.Path(os.path.relpath(path, self.directory)).as_posix()

    def place(self, path: pathlib.Path) -> str:
        """What `path` is called in messages that tell what it is of."""
        return f"File {self.name(path)} of {self.title}"

    def listed(self) -> str:
        """The names, the first of many."""
        others = len(self.paths) - 1
        return self.name(self.paths[0]) + (f" and {others:,} more" if others else "")

    def text_bytes(self) -> int:
        """How much text the files hold, about; what is compressed may hold ten times its size."""
        is_text = self.format != "parquet" and not self.extension.endswith(".gz")
        return sum(p.stat().st_size for p in self.paths) * (1 if is_text else 10)

    def sources(self) -> list[dict[str, str | int]]:
        """Name and size of each file, as the manifest lists them."""
        return [{"file": self.name(p), "bytes": p.stat().st_size} for p in self.paths]


def find_log(inputs: str | pathlib.Path, pattern: str, tables: Iterable[str] = ()) -> InputFiles:
    """Finds the files of a log.

    Args:
      inputs: a file, a glob, or a directory.
      pattern: which files of a directory are the log's, a glob in it (`input.files` of the spec).
      tables: globs in the directory whose files are side tables and not the log's.

    Raises:
      FileNotFoundError: there are none.
      ValueError: they are of a kind that is not read, or of several kinds.
    """
    text = os.fspath(inputs)
    path = pathlib.Path(text)
    if path.is_dir():
        side = {found for table in tables for found in _matches(path, table)}
        found = [p for p in _matches(path, pattern) if p not in side]
        if not found:
            raise FileNotFoundError(
                f"No file in {path} matches input.files = {pattern!r}. Received: "
                f"{_some_files(path)}. Expected: files of the log. Give the directory that holds "
                "it, or set `files` under [input] of the spec."
            )
        return _same_kind(path, found, "the log")
    if path.is_file():
        return _same_kind(path.parent, [path], "the log")
    found = sorted(pathlib.Path(p) for p in glob.glob(text, recursive=True))
    found = [p for p in found if p.is_file() and not p.name.startswith((".", "_"))]
    if not found:
        raise FileNotFoundError(
            f"No file matches {text!r}. Received: {path}, which is not there. Expected: a file, a "
            "glob in quotes, or a directory that holds a log."
        )
    return _same_kind(_fixed_part(path), found, "the log")


def find_table(directory: pathlib.Path, name: str, pattern: str) -> InputFiles:
    """Finds the files of side table `name`. Raises as `find_log`."""
    found = _matches(directory, pattern)
    if not found:
        raise FileNotFoundError(
            f"Side table '{name}': no file in {directory} matches {pattern!r}. Received: "
            f"{_some_files(directory)}. Expected: the file of the table beside the log. Mend "
            f"`file` under [tables.{name}] of the spec."
        )
    return _same_kind(directory, found, f"side table '{name}'")


def check_whole(files: InputFiles) -> None:
    """Reads compressed files to their end: the engine takes half a file for a whole one.

    Raises:
      ValueError: a file is damaged or cut short.
    """

    def check(path: pathlib.Path) -> None:
        try:
            with gzip.open(path) as file:
                while file.read(1 << 20):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"Cannot read {files.title} ({files.name(path)}). Received: {error}. Expected: a "
                "whole file; it is damaged or cut short, fetch it again."
            ) from error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(check, (path for path in files.paths if path.suffix == ".gz")):
            pass


def _matches(directory: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Files by name; hidden ones, and markers such as `_SUCCESS`, are no data."""
    found = glob.glob(pattern, root_dir=directory, recursive=True)
    paths = [directory / name for name in sorted(found)]
    return [p for p in paths if p.is_file() and not p.name.startswith((".", "_"))]


def _same_kind(directory: pathlib.Path, paths: list[pathlib.Path], title: str) -> InputFiles:
    extensions: dict[str, str] = {}
    for path in paths:
        extensions.setdefault(_extension(path), path.name)
    unknown = [name for extension, name in extensions.items() if extension not in FORMATS]
    if unknown:
        raise ValueError(
            f"Cannot read {unknown[0]}, a file of {title}. Received: another kind of file. "
            f"Expected one of: {_listed(FORMATS)} (.json: one object a line)."
        )
    if len(extensions) > 1:
        received = _listed(f"{name} ({extension})" for extension, name in extensions.items())
        raise ValueError(
            f"All files of {title} must be of one kind. Received: {received}. Expected: files of "
            "one kind. Narrow the glob, or `files` under [input] of the spec."
        )
    return InputFiles(directory, tuple(paths), next(iter(extensions)), title)


def _extension(path: pathlib.Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def _fixed_part(pattern: pathlib.Path) -> pathlib.Path:
    """The directory that a glob searches."""
    fixed = pathlib.Path(*pattern.parts[:1])
    for part in pattern.parts[1:-1] if len(pattern.parts) > 1 else ():
        if glob.has_magic(str(fixed / part)):
            break
        fixed /= part
    return fixed if not glob.has_magic(str(fixed)) and len(pattern.parts) > 1 else pathlib.Path()


def _some_files(directory: pathlib.Path) -> str:
    paths = (p for p in sorted(directory.rglob("*")) if p.is_file())
    names = [p.relative_to(directory).as_posix() for p, _ in zip(paths, range(6), strict=False)]
    return _listed(names[:5]) + (", ..." if len(names) > 5 else "")


def _listed(names: Collection[str] | Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
