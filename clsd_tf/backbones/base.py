"""What every backbone is: model features -> logit [batch]."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from clsd_tf.candidates import CandidateFeatures
from clsd_tf.columns import EmbeddedColumns
from clsd_tf.embeddings import FusedEmbedding, as_features
from clsd_tf.features import ModelFeature
from clsd_tf.linear import SumsFirst
from clsd_tf.precision import PRECISIONS, computing_in


class Backbone(keras.Model, abc.ABC):
    """Base class of the click models: embeddings first, one Dense without activation last.

    A subclass overrides `represent`. The last layer is `head`, into which a calibration can be
    folded without changing the graph.

    Args:
      features: the model's features, from `Encoder.model_features`.
      num_sums: how many of the first entries of `represent` are sums that belong to the logit as
        they are, such as a linear term; see `SumsFirst`. Defaults to 0.
      embed: whether there are embeddings. Defaults to True; without, `represent` is given none.

    A subclass may set `shares_candidates = True` beside its `represent`, which then may be given
    `CandidateColumns` as `embedded`. It applies a `dense_stack` to all columns by `through`, passes
    `inputs` on as they are, changes columns by `replaced` alone, and has its weights in layers.

    Input: a mapping name -> `[batch]` or `[batch, length]` with at least these features.
    Output: float32 logits [batch]; sigmoid(logit) is the predicted probability of a click.
    """

    shares_candidates = False

    def __init__(
        self, features: Sequence[ModelFeature], num_sums: int = 0, embed: bool = True, **kwargs
    ):
        """See the class."""
        super().__init__(**kwargs)
        self._check_policy()
        self.features = as_features(features)
        self.embedding = FusedEmbedding(self.features, name="embedding") if embed else None
        kernel = SumsFirst(num_sums) if num_sums else "glorot_uniform"
        # Logits are float32 under mixed precision too.
        self.head = keras.layers.Dense(1, kernel_initializer=kernel, dtype="float32", name="head")

    @abc.abstractmethod
    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Turns the features of an impression into one vector.

        Args:
          inputs: encoded features, see the class.
          embedded: categorical features as float32 [batch, dim] or [batch, length, dim].

        Returns:
          float [batch, width], from which `head` makes the logit.
        """

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See the class. Raises ValueError where a feature is missing."""
        vector = self.represent(*self.embed(inputs))
        return tf.squeeze(self.head(vector), axis=-1)

    @property
    def can_share(self) -> bool:
        """Whether the last class that says how columns are used sets `shares_candidates`."""
        ways = {"call", "embed", "represent", "pool", "columns", "flatten"}
        last = next(kind for kind in type(self).__mro__ if ways & vars(kind).keys())
        return self.embedding is not None and vars(last).get("shares_candidates", False)

    def candidate_logits(self, features: CandidateFeatures) -> tf.Tensor:
        """Logits of candidates, float32 [requests * candidates]: those of the rows one by one.

        Embeddings of what the candidates of a request share are read and averaged once, and so are
        their products with layers that a subclass applies by `through`. The backbone is built.
        Without `shares_candidates` it is given rows, as in training.
        """
        if not self.can_share:
            return self(features.repeated(), training=False)
        features = features.only([f.name for f in self.features], self.compute_dtype)
        embedded = features.embedded(self.embedding)
        inputs = features.repeated()
        vector = self.represent({f.name: inputs[f.name] for f in self.features}, embedded)
        return tf.squeeze(self.head(vector), axis=-1)

    def embed(
        self, inputs: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the arguments of `represent`: the features alone, and their embeddings."""
        missing = [feature.name for feature in self.features if feature.name not in inputs]
        if missing:
            raise ValueError(
                f"The backbone `{self.name}` misses features. Received: {', '.join(inputs)}. "
                f"Expected also: {', '.join(missing)}. A value that is not known is 0 for an id "
                "and for the elements of a list; the feature itself has to be there."
            )
        inputs = {feature.name: inputs[feature.name] for feature in self.features}
        return inputs, {} if self.embedding is None else self.embedding(inputs)

    def pool(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> EmbeddedColumns:
        """Averages each list over its elements: all vectors are float [batch, dim] then."""
        return _as_columns(embedded).pooled(inputs)

    def columns(
        self, inputs: Mapping[str, tf.Tensor], vectors: Mapping[str, tf.Tensor]
    ) -> EmbeddedColumns:
        """Adds the numbers as [batch, 1] to the `vectors`, [batch, dim]; in the features' order."""
        return _as_columns(vectors).with_numbers(inputs, self.features, self.compute_dtype)

    def flatten(
        self, inputs: Mapping[str, tf.Tensor], vectors: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Puts all features side by side: float [batch, width]. `vectors` are [batch, dim]."""
        return self.columns(inputs, vectors).flat()

    def _check_policy(self) -> None:
        """Raises ValueError where the layers, which are still to be made, would have another."""
        policy = keras.mixed_precision.global_policy().name
        if self.dtype_policy.name != policy:
            raise ValueError(
                "All layers of a backbone compute in the same dtype. Received: "
                f"dtype={self.dtype_policy.name!r} for `{self.name}` itself, where its layers will "
                f"have {policy!r}. Expected: `clsd_tf.get_backbone(name, features, dtype=...)`."
            )

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        policy = self.dtype_policy.name
        return {
            "name": self.name,
            "features": [feature.get_config() for feature in self.features],
            **({"dtype": policy} if policy in PRECISIONS else {}),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Backbone:
        """See `keras.Model`."""
        options = {**config}
        policy = options.pop("dtype", None)
        with computing_in(policy):
            return cls(**options)


def _as_columns(vectors: Mapping[str, tf.Tensor]) -> EmbeddedColumns:
    return vectors if isinstance(vectors, EmbeddedColumns) else EmbeddedColumns(vectors)


def dense_stack(units: Sequence[int], name: str) -> keras.Sequential:
    """Dense layers with ReLU, one for each entry of `units`."""
    layers = [keras.layers.Dense(width, activation="relu") for width in units]
    return keras.Sequential(layers, name=name)


def side_by_side(*parts: tf.Tensor) -> tf.Tensor:
    """Parts of a representation, [batch, width] each, as float32 for `head`."""
    return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=1)


def item_and_histories(features: Sequence[ModelFeature], name: str) -> tuple[str, list[str]]:
    """The item's feature, and the lists that share its vocabulary: histories of items.

    Args:
      features: of the model.
      name: of the backbone that needs them, for the message.

    Raises:
      ValueError: one of them is not among the features.
    """
    items = [feature for feature in features if feature.role == "item"]
    histories = [
        feature.name
        for feature in features
        if items and feature.is_list and feature.table == items[0].table
    ]
    if not histories:
        raise ValueError(
            f"`{name}` needs the item and a history of items among its features. Received: "
            f"{', '.join(feature.name for feature in features)}. Add [history] to the spec, or a "
            "list column that shares the item's vocabulary, or use another backbone."
        )
    return items[0].name, histories
