"""Categorical ids -> vectors, from one table for all columns of the same dimension."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from clsd_tf.columns import EmbeddedColumns
from clsd_tf.features import ModelFeature
from clsd_tf.table_rows import (
    distinct_rows,
    finds_distinct_rows,
    known_distinct_rows,
    read_rows,
    reread_rows,
    spread,
)

# Columns of one table, those together whose vectors lie side by side.
Cuts = Sequence[Sequence[ModelFeature]]


@keras.saving.register_keras_serializable(package="clsd_tf")
class FusedEmbedding(keras.layers.Layer):
    """Embeds the categorical features of a click log from one table per distinct dimension.

    The ids of each column are shifted to rows of their own in a common table; columns that share a
    vocabulary share its rows. One large table costs one collective a step where many small ones
    cost one each, and its gradient is sparse: only the rows of a batch are touched. A
    `ParameterServerStrategy` with a partitioner cuts it into parts of consecutive rows.

    Args:
      features: the model's features; numeric ones are passed over.
      embeddings_initializer: of the tables. Defaults to uniform in [-0.05, 0.05].

    Input: a mapping with int64 ids `[batch]`, for lists `[batch, length]`.
    Output: a dict of float32 `[batch, dim]`, for lists `[batch, length, dim]`.

    >>> features = [ModelFeature("item", "categorical", cardinality=100, dim=8, table="item")]
    >>> FusedEmbedding(features)({"item": tf.constant([3, 7])})["item"].shape
    TensorShape([2, 8])
    """

    def __init__(
        self,
        features: Sequence[ModelFeature],
        embeddings_initializer: str | keras.initializers.Initializer = "uniform",
        **kwargs,
    ):
        """See the class."""
        super().__init__(**kwargs)
        self.features = as_features(features)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        offsets: dict[str, int] = {}
        rows: dict[int, int] = {}
        for feature in self.features:
            if feature.kind == "categorical" and feature.table not in offsets:
                offsets[feature.table] = rows.get(feature.dim, 0)
                rows[feature.dim] = offsets[feature.table] + feature.cardinality
        # Tuples: Keras would track dicts and lists as parts of the checkpoint.
        self._cuts = self._cuts_of(self.features)
        self._offsets = tuple(offsets.items())
        self._rows = tuple(rows.items())
        self._tables: dict[str, tf.Variable] = {}

    def build(self, input_shape: object) -> None:
        """Creates the tables."""
        config = self.embeddings_initializer.get_config()
        for dim, rows in self._rows:
            self._tables[str(dim)] = self.add_weight(
                name=f"table_{dim}",
                shape=(rows, dim),
                # One initializer for two tables would give both the same values.
                initializer=self.embeddings_initializer.from_config(config),
                experimental_autocast=False,  # gradients of a row are summed in float32
            )
        super().build(input_shape)

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The tables, or their parts, whose gradients are sparse (see `clsd_tf.optimizers`)."""
        return [part for parts in self._parts().values() for part in parts]

    @property
    def whole_tables(self) -> list[tf.Variable]:
        """The tables, each as one: where a strategy has cut it, what holds its `variables`."""
        return list(self._tables.values())

    @property
    def table_rows(self) -> list[int]:
        """Number of rows of each of `embedding_variables`; whole tables before they exist."""
        if not self._tables:
            return [rows for _, rows in self._rows]
        return [variable.shape[0] for variable in self.embedding_variables]

    @property
    def segments(self) -> list[dict[str, tuple[int, int]]]:
        """For each of `whole_tables`: table of a column -> its first row, number of rows."""
        offsets = dict(self._offsets)
        found = []
        for _, cuts in self._cuts:
            columns = [column for cut in cuts for column in cut]
            rows = {column.table: column.cardinality for column in reversed(columns)}
            found.append({table: (offsets[table], size) for table, size in rows.items()})
        return found

    def rows_read(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Rows of each of `embedding_variables` that `call` reads: int64 [ids].

        Where `finds_distinct_rows`, each is there once, and `call` in the same graph knows it.
        """
        if finds_distinct_rows():
            inputs = {name: tf.convert_to_tensor(values) for name, values in inputs.items()}
            rows = {dim: self._distinct_rows(cuts, inputs)[0] for dim, cuts in self._cuts}
        else:
            rows = {dim: self._rows_of(cuts, inputs) for dim, cuts in self._cuts}
        read = []
        for dim, parts in self._parts().items():
            ids, first = tf.reshape(rows[int(dim)], [-1]), 0
            for part in parts:
                after = first + part.shape[0]
                own = ids if len(parts) == 1 else ids[(ids >= first) & (ids < after)] - first
                read.append(own)
                first = after
        return read

    def _parts(self) -> dict[str, list[tf.Variable]]:
        """The parts of each table, by its dimension; a table that is whole is its only one."""
        return {dim: list(getattr(t, "variables", [t])) for dim, t in self._tables.items()}

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        names: Sequence[str] | None = None,
        training: bool | None = None,
    ) -> EmbeddedColumns:
        """See the class; `names` are the features to embed, all of them by default.

        In training each row is read once, with the same results (see `clsd_tf.table_rows`), as in a
        frozen layer where `rows_read` told of the rows before.
        """
        embedded = EmbeddedColumns()
        wanted = [f for f in self.features if names is None or f.name in names]
        finds = names is None and finds_distinct_rows()
        for dim, cuts in self._cuts_of(wanted):
            is_known = (
                finds and not self.trainable and self._key(cuts, inputs) in known_distinct_rows()
            )
            if is_known or (finds and training is True):
                found = self._read_once(dim, cuts, inputs)
            else:  # one lookup for each: to read all at once and cut it then is a copy of all
                found = [self.lookup(dim, self._rows_of([cut], inputs)) for cut in cuts]
            for cut, vectors in zip(cuts, found, strict=True):
                if cut[0].is_list:
                    embedded[cut[0].name] = vectors
                    continue
                # A graph keeps of both what is used.
                run = tuple(feature.name for feature in cut)
                embedded.runs[run] = tf.reshape(vectors, [-1, len(cut) * dim])
                embedded.update(zip(run, tf.unstack(vectors, axis=1), strict=True))
        return embedded

    def _cuts_of(
        self, features: Sequence[ModelFeature]
    ) -> tuple[tuple[int, tuple[tuple[ModelFeature, ...], ...]], ...]:
        """Dimension -> its columns among `features`, cut by `_runs`."""
        columns: dict[int, list[ModelFeature]] = {}
        for feature in features:
            if feature.kind == "categorical":
                columns.setdefault(feature.dim, []).append(feature)
        return tuple((dim, self._runs(of_dim)) for dim, of_dim in columns.items())

    def _runs(self, columns: Sequence[ModelFeature]) -> tuple[tuple[ModelFeature, ...], ...]:
        """The columns of a table, cut where not both neighbours are scalars and consecutive."""
        places = {feature.name: place for place, feature in enumerate(self.features)}

        def key(numbered: tuple[int, ModelFeature]) -> tuple[int, str]:
            number, feature = numbered
            return places[feature.name] - number, feature.name if feature.is_list else ""

        runs = itertools.groupby(enumerate(columns), key)
        return tuple(tuple(feature for _, feature in run) for _, run in runs)

    def lookup(self, dim: int, rows: tf.Tensor) -> tf.Tensor:
        """Reads rows of the table of a dimension; an export may put its own in the place of this.

        Args:
          dim: of the table.
          rows: int64, any shape.

        Returns:
          Of the layer's compute dtype, the shape of `rows` and then [dim].
        """
        return tf.cast(read_rows(self._tables[str(dim)], rows), self.compute_dtype)

    def _read_once(self, dim: int, cuts: Cuts, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What `lookup` gives of each cut, of rows that are read once."""
        rows, places = self._distinct_rows(cuts, inputs)
        read = read_rows if self.trainable else reread_rows  # which has no gradient
        found = spread(read(self._tables[str(dim)], rows), *places)
        shaped = []
        for cut, vectors in zip(cuts, found, strict=True):
            ids = inputs[cut[0].name]
            width = len(cut)
            if cut[0].is_list:
                width = tf.shape(ids)[1] if ids.shape[1] is None else ids.shape[1]
            vectors = tf.reshape(vectors, [tf.shape(ids)[0], width, dim])
            shaped.append(tf.cast(vectors, self.compute_dtype))
        return shaped

    def _distinct_rows(
        self, cuts: Cuts, inputs: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Rows of the common table, each once, and the places of the ids of each cut among them."""
        known, key = known_distinct_rows(), self._key(cuts, inputs)
        if key not in known:
            known[key] = self._find_distinct_rows(cuts, inputs)
        return known[key]

    def _key(self, cuts: Cuts, inputs: Mapping[str, tf.Tensor]) -> Hashable:
        """The same for what reads the same rows: a teacher and its student have equal tables."""
        places = [tuple((feature.name, feature.table) for feature in cut) for cut in cuts]
        ids = [inputs[name].ref() for cut in places for name, _ in cut]
        return self._offsets, tuple(places), tuple(ids)

    def _find_distinct_rows(
        self, cuts: Cuts, inputs: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        offsets = dict(self._offsets)
        tables: dict[str, dict[str, tf.Tensor]] = {}
        for feature in itertools.chain(*cuts):
            ids = tf.reshape(tf.cast(inputs[feature.name], tf.int64), [-1])
            tables.setdefault(feature.table, {})[feature.name] = ids + offsets[feature.table]
        rows, places = distinct_rows(tables.values())
        together = [
            places[cut[0].name]
            if cut[0].is_list
            else tf.reshape(tf.stack([places[feature.name] for feature in cut], axis=1), [-1])
            for cut in cuts
        ]
        return rows, together

    def _rows_of(self, cuts: Cuts, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Rows of the common table, [batch, ids of all columns]."""
        offsets, rows = dict(self._offsets), []
        for cut in cuts:
            ids = [tf.cast(inputs[feature.name], tf.int64) for feature in cut]
            first = tf.constant([offsets[feature.table] for feature in cut], tf.int64)
            rows.append((ids[0] if cut[0].is_list else tf.stack(ids, axis=1)) + first)
        return tf.concat(rows, axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "features": [feature.get_config() for feature in self.features],
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


def embeddings_of(layer: keras.layers.Layer) -> list[FusedEmbedding]:
    """The fused embeddings in a layer, itself included."""
    return [part for part in (layer, *layer.submodules) if isinstance(part, FusedEmbedding)]


def keras_inputs(features: Sequence[ModelFeature]) -> dict[str, tf.Tensor]:
    """Symbolic inputs for a functional Keras model of one's own, by feature name."""
    return {
        feature.name: keras.Input(
            shape=() if feature.length is None else (feature.length,),
            dtype=tf.float32 if feature.kind == "numeric" else tf.int64,
            name=feature.name,
        )
        for feature in features
    }


def as_features(
    features: Sequence[ModelFeature | Mapping[str, Any]],
) -> tuple[ModelFeature, ...]:
    """Features, also from the plain values that `get_config` stores."""
    return tuple(
        feature if isinstance(feature, ModelFeature) else ModelFeature(**feature)
        for feature in features
    )
