"""What every backbone is: model features -> logit [batch]."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.embeddings import EmbeddedColumns, FusedEmbedding, mean_pool
from clsd_tf.features import ModelFeature


class Backbone(keras.Model, abc.ABC):
    """Base class of the click models: embeddings first, one Dense without activation last.

    A subclass overrides `represent`. The last layer is `head`, into which a calibration can be
    folded without changing the graph.

    Args:
      features: the model's features, from `Encoder.model_features`.

    Input: a mapping name -> `[batch]` or `[batch, length]` with at least these features.
    Output: float32 logits [batch]; sigmoid(logit) is the predicted probability of a click.
    """

    def __init__(self, features: Sequence[ModelFeature], **kwargs):
        """See the class."""
        super().__init__(**kwargs)
        self.embedding = FusedEmbedding(features, name="embedding")
        self.features = self.embedding.features
        self.head = keras.layers.Dense(1, dtype="float32", name="head")

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
        """See the class."""
        inputs = {feature.name: inputs[feature.name] for feature in self.features}
        vector = self.represent(inputs, self.embedding(inputs))
        return tf.squeeze(self.head(vector), axis=-1)

    def pool(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Averages each list over its elements: all vectors are float [batch, dim] then."""
        pooled = {
            name: mean_pool(vector, inputs[name])
            for name, vector in embedded.items()
            if vector.shape.rank != 2
        }
        if isinstance(embedded, EmbeddedColumns):
            return embedded.replaced(pooled)
        return {**embedded, **pooled}

    def flatten(
        self, inputs: Mapping[str, tf.Tensor], vectors: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Puts all features side by side: float [batch, width]. `vectors` are [batch, dim]."""
        numeric = {
            feature.name: tf.cast(inputs[feature.name], tf.float32)[:, tf.newaxis]
            for feature in self.features
            if feature.kind == "numeric"
        }
        parts = {(name,): part for name, part in {**vectors, **numeric}.items()}
        parts |= getattr(vectors, "runs", {})
        names = [feature.name for feature in self.features]
        chosen, place = [], 0
        while place < len(names):
            # The longest of what begins here, so that least is put together.
            own = (run for run in parts if run == tuple(names[place : place + len(run)]))
            run = max(own, key=len)
            chosen.append(parts[run])
            place += len(run)
        return tf.concat(chosen, axis=1)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            "name": self.name,
            "features": [feature.get_config() for feature in self.features],
        }


def dense_stack(units: Sequence[int], name: str) -> keras.Sequential:
    """Dense layers with ReLU, one for each entry of `units`."""
    layers = [keras.layers.Dense(width, activation="relu") for width in units]
    return keras.Sequential(layers, name=name)
