"""Raw column values -> what a backbone sees. The only place where encoding happens.

`Encoder` is applied by the shard writer to Arrow batches and is compiled into the export, so a
request and a training row with the same raw values become the same ids. Raw values are int64,
float32 or string tensors; a missing one is INT_MISSING, NaN or "". Ids are made of canonical
strings or of int64, numerics are float32 before they are bucketed.

Id 0 is missing or padding; ids 1..num_oov are out of vocabulary; the vocabulary follows.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from clsd_tf.encoding_tables import SPEC, EncodingTables, vocabulary_path
from clsd_tf.features import ClickLogSpec, ColumnSpec, ModelFeature
from clsd_tf.spec import read_spec
from clsd_tf.vocabulary import Vocabulary

INT_MISSING = -(2**63)
_IN_A_BUCKET = -1  # what is unknown, where several ids are for that
_DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}
_MISSING: dict[str, str | int | float] = {"string": "", "int": INT_MISSING, "float": float("nan")}


class Encoder(tf.Module):
    """Encodes raw columns by a spec and the tables of its training split.

    >>> encoder = Encoder.load("prepared")
    >>> features = encoder(raw)  # a tensor of raw values for each column of the log
    >>> features["user_id"].dtype
    tf.int64
    """

    def __init__(self, spec: ClickLogSpec, tables: EncodingTables, directory: str | pathlib.Path):
        """`directory` holds the vocabularies (see `vocabulary_path`)."""
        super().__init__(name="encoder")
        tables.check(spec, directory)
        self.spec = spec
        self.tables = tables
        # An owner need not be encoded itself: histories can list items that are no model input.
        owners = {column.name: column for column in map(spec.owner, spec.encoded_columns)}
        self._vocabularies = {
            name: Vocabulary(
                vocabulary_path(directory, name),
                raw_dtype(column),
                tables.vocabulary_sizes[name],
                first_id=1 + column.num_oov,
                unknown_id=1 if column.num_oov == 1 else _IN_A_BUCKET,
            )
            for name, column in owners.items()
            if column.encoding == "vocabulary"
        }

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> Encoder:
        """The encoder of a prepared data set, or of a run's copy of its encoding."""
        spec = read_spec(pathlib.Path(directory) / SPEC)
        return cls(spec, EncodingTables.load(directory), directory)

    def encode_values(self, column: ColumnSpec, values: tf.Tensor) -> tf.Tensor:
        """Encodes raw values of any shape, element by element.

        Returns:
          int64 ids in `[0, cardinality)`, or float32 for a numeric column.
        """
        column = _encoding_of(column, self.spec)
        values = tf.cast(values, raw_dtype(column))
        missing = is_missing(values)
        if column.default is not None:
            values = tf.where(missing, tf.cast(column.default, values.dtype), values)
            missing = is_missing(values)
        if column.is_numeric:
            return tf.where(missing, 0.0, self._scale(column, values))
        return tf.where(missing, tf.constant(0, tf.int64), self._ids(column, values))

    def __call__(self, raw: Mapping[str, tf.Tensor | tf.RaggedTensor]) -> dict[str, tf.Tensor]:
        """Encodes the model's columns.

        Args:
          raw: column name -> raw values `[batch]`, for lists a ragged `[batch, None]`.

        Returns:
          column name -> `[batch]`, for lists `[batch, max_length]` padded with id 0.
        """
        return {c.name: self.encode_column(c, raw[c.name]) for c in self.spec.model_columns}

    def encode_column(self, column: ColumnSpec, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Encodes one column of the model: `[batch]`, or `[batch, max_length]` of a ragged list."""
        if not column.is_list:
            return self.encode_values(column, values)
        values = shorten(column, values)
        values = values.with_flat_values(self.encode_values(column, values.flat_values))
        return values.to_tensor(0, shape=[None, column.max_length])

    def cardinality(self, column: ColumnSpec) -> int:
        """Number of ids of a categorical column, id 0 included."""
        column = self.spec.owner(column)
        if column.encoding == "vocabulary":
            return 1 + column.num_oov + self.tables.vocabulary_sizes[column.name]
        if column.encoding == "hash":
            return 1 + column.num_buckets
        if column.encoding == "identity":
            return 2 + column.num_values
        return 2 + len(self.boundaries(column))

    @property
    def model_features(self) -> tuple[ModelFeature, ...]:
        """What a backbone is built from, in the order of the spec."""
        features = []
        for column in self.spec.model_columns:
            owner = self.spec.owner(column)
            if column.is_numeric:
                features.append(ModelFeature(column.name, "numeric", role=column.role))
            else:
                features.append(
                    ModelFeature(
                        column.name,
                        "categorical",
                        cardinality=self.cardinality(column),
                        dim=owner.dim,
                        length=column.max_length,
                        table=owner.name,
                        role=column.role,
                    )
                )
        return tuple(features)

    @property
    def num_groups(self) -> int:
        """Number of user groups; 1 for a log without a group column."""
        return self.cardinality(self.spec.group) - 1 if self.spec.group else 1

    def encode_group(self, values: tf.Tensor) -> tf.Tensor:
        """Group index in `[0, num_groups)`; a user without a group joins the first."""
        return self.group_of(self.encode_values(self.spec.group, values))

    def group_of(self, ids: tf.Tensor) -> tf.Tensor:
        """Group index of ids of the group's column, see `encode_group`."""
        return tf.maximum(ids - 1, 0)

    def group_names(self) -> list[str]:
        """A readable name for each group."""
        group = self.spec.group
        if group is None:
            return ["all"]
        if group.encoding == "buckets":
            # The shortest digits that tell one float32 from the next: names must differ.
            edges = [
                np.format_float_positional(np.float32(edge), trim="-")
                for edge in self.boundaries(group)
            ]
            if not edges:  # quantiles of a column with a single value
                return ["all"]
            inner = [f"{low} to <{high}" for low, high in itertools.pairwise(edges)]
            return [f"<{edges[0]}", *inner, f">={edges[-1]}"]
        if group.encoding == "vocabulary":
            tokens = self._vocabularies[group.name].tokens()
            return [*(f"other {i}" if i else "other" for i in range(group.num_oov)), *tokens]
        first = ["other"] if group.encoding == "identity" else []
        return first + [str(i) for i in range(self.num_groups - len(first))]

    def frequent_values(self, column: ColumnSpec, count: int) -> list[str | int]:
        """The `count` most frequent raw values that the vocabulary of a column holds."""
        tokens = self._vocabularies[column.name].first(count)
        return [int(token) if column.type == "int" else token for token in tokens]

    def vocabulary(self, column: ColumnSpec) -> list[str]:
        """All tokens that the vocabulary of a column holds, in the order of their ids."""
        return self._vocabularies[column.name].tokens()

    def boundaries(self, column: ColumnSpec) -> list[float]:
        """Rising bucket boundaries of a column, declared or learned."""
        if column.boundaries is not None:
            return list(column.boundaries)
        return self.tables.boundaries[column.name]

    def _ids(self, column: ColumnSpec, values: tf.Tensor) -> tf.Tensor:
        if column.encoding == "vocabulary":
            ids = self._vocabularies[column.name].ids(values)
            if column.num_oov == 1:
                return ids
            oov = 1 + tf.strings.to_hash_bucket_fast(canonical(values), column.num_oov)
            return tf.where(ids == _IN_A_BUCKET, oov, ids)
        if column.encoding == "hash":
            return 1 + tf.strings.to_hash_bucket_fast(canonical(values), column.num_buckets)
        if column.encoding == "identity":
            known = (values >= 0) & (values < column.num_values)
            return tf.where(known, 2 + values, 1)
        edges = tf.constant(self.boundaries(column), tf.float32)
        flat = tf.reshape(tf.cast(values, tf.float32), [-1])
        bucket = tf.searchsorted(edges, flat, side="right", out_type=tf.int64)
        return 1 + tf.reshape(bucket, tf.shape(values))

    def _scale(self, column: ColumnSpec, values: tf.Tensor) -> tf.Tensor:
        values = tf.cast(values, tf.float32)
        if column.scaling in ("log", "log_standard"):
            values = tf.sign(values) * tf.math.log1p(tf.abs(values))
        if column.scaling in ("standard", "log_standard"):
            mean, deviation = self.tables.moments[column.name]
            values = (values - mean) / (deviation or 1.0)
        return values


def _encoding_of(column: ColumnSpec, spec: ClickLogSpec) -> ColumnSpec:
    """The column whose encoding applies to `column`, with `column`'s own default."""
    if column.shares is None:
        return column
    return spec.owner(column).model_copy(update={"default": column.default})


def raw_dtype(column: ColumnSpec) -> tf.DType:
    """The dtype of the column's raw values."""
    return _DTYPES[column.type]


def missing_value(column: ColumnSpec) -> str | int | float:
    """The raw value that stands for a missing one."""
    return _MISSING[column.type]


def is_missing(values: tf.Tensor) -> tf.Tensor:
    """Where raw values are missing. An infinite number is none, here as in `prepare`."""
    if values.dtype == tf.string:
        return tf.equal(values, "")
    if values.dtype.is_integer:
        return tf.equal(values, INT_MISSING)
    return ~tf.math.is_finite(values)


def canonical(values: tf.Tensor) -> tf.Tensor:
    """Ids as the strings that are hashed: 29, never 29.0."""
    return values if values.dtype == tf.string else tf.strings.as_string(values)


def shorten(column: ColumnSpec, values: tf.RaggedTensor) -> tf.RaggedTensor:
    """Keeps the first or last `max_length` elements of each row of a ragged `[batch, None]`."""
    if column.keep == "first":
        return values[:, : column.max_length]
    return values[:, -column.max_length :]
