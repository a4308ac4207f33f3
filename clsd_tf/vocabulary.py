"""Vocabularies as files of one token a line, and as tables of a TensorFlow graph."""

from __future__ import annotations

import itertools
import pathlib

import tensorflow as tf


class Vocabulary(tf.Module):
    """Tokens of a column and their ids. An export carries the file as an asset.

    Args:
      path: file with one token a line.
      dtype: of the tokens, tf.string or tf.int64.
      size: number of tokens that the file must have.
      first_id: of the first token; the others follow in the order of the file.
      unknown_id: of a value that is no token.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has another number of tokens.
    """

    def __init__(
        self, path: pathlib.Path, dtype: tf.DType, size: int, *, first_id: int, unknown_id: int
    ):
        super().__init__(name="vocabulary")
        self._path, self._unknown_id = path, unknown_id
        if not path.exists():
            raise FileNotFoundError(
                f"Column '{path.stem}' needs its vocabulary. Received: no file {path}. Expected: "
                "a directory written by `clsd-prepare`, or the `encoding` folder of a run."
            )
        # TensorFlow has no empty tables: they can neither be read from a file nor from tensors.
        try:
            self._table = None
            if path.stat().st_size:
                # The table holds ids, not places: a request is one operation for each column then.
                self._table = tf.lookup.StaticHashTable(
                    _FileOfOneState(path, dtype, first_id), unknown_id
                )
        except tf.errors.OpError as error:
            raise ValueError(
                f"The vocabulary of column '{path.stem}' is damaged. Received: {path}, of which "
                f"TensorFlow says: {error.message}. Expected: one token a line, none of them "
                "twice. Copy the directory again, or prepare it again."
            ) from error
        received = 0 if self._table is None else int(self._table.size())
        if received != size:
            raise ValueError(
                f"The vocabulary of column '{path.stem}' does not belong to its data set. "
                f"Received: {received} tokens in {path}. Expected: {size}, as encoding.json says. "
                "Copy the directory as a whole, or prepare it again."
            )

    def ids(self, values: tf.Tensor) -> tf.Tensor:
        """Id of each value: int64, shape of `values`."""
        if self._table is None:
            return tf.fill(tf.shape(values), tf.constant(self._unknown_id, tf.int64))
        return self._table.lookup(values)

    def first(self, count: int) -> list[str]:
        """The first tokens of the file as text, without reading the rest of it."""
        with self._path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            return [line.removesuffix("\n") for line in itertools.islice(lines, count)]

    def tokens(self) -> list[str]:
        """All tokens as text, in the order of the file."""
        if self._table is None:
            return []
        keys, ids = self._table.export()
        ordered = tf.gather(keys, tf.argsort(ids))
        return [_text(key) for key in ordered.numpy()]


class _FileOfOneState(tf.lookup.TextFileInitializer):
    """A file of tokens as it is now.

    TensorFlow knows a table by the path of its file: where another file has come to that place,
    such as a data set that was prepared anew, it would go on with the tokens of the first one.
    """

    def __init__(self, path: pathlib.Path, dtype: tf.DType, first_id: int):
        now = path.stat()
        state = ("vocabulary", path, now.st_ino, now.st_size, now.st_mtime_ns, first_id)
        self._state = "_".join(map(str, state))
        super().__init__(
            str(path),
            key_dtype=dtype,
            key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
            value_dtype=tf.int64,
            value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            value_index_offset=first_id,
        )

    @property
    def _shared_name(self) -> str:
        return self._state


def _text(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
