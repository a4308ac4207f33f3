"""First-order terms: one weight for each id, and what a last layer makes of such sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.embeddings import FusedEmbedding, as_features
from clsd_tf.features import ModelFeature


@keras.saving.register_keras_serializable(package="clsd_tf")
class LinearTerm(keras.layers.Layer):
    """Sum of one learned weight for each id, and of the weighed numbers: <w, x>.

    A list counts with the mean of its weights, so that its length has no say. Weights of ids start
    at 0: an id that training has not seen changes nothing. The sum is float32, under mixed
    precision too.

    Args:
      features: the model's features.

    Input: a mapping with the features, `[batch]` or `[batch, length]`.
    Output: float32 [batch, 1].
    """

    def __init__(self, features: Sequence[ModelFeature], **kwargs):
        """See the class."""
        super().__init__(**{"dtype": "float32", **kwargs})
        self.features = as_features(features)
        # One column wide, whatever the width of the feature's embedding is elsewhere.
        self.weights_of_ids = FusedEmbedding(
            [dataclasses.replace(feature, dim=1) for feature in self.features],
            embeddings_initializer="zeros",
            dtype="float32",
            name="weights_of_ids",
        )
        self._numeric = tuple(f.name for f in self.features if f.kind == "numeric")

    def build(self, input_shape: object) -> None:
        """Creates the weights of the numbers."""
        if self._numeric:
            self.kernel = self.add_weight(name="kernel", shape=(len(self._numeric), 1))
        super().build(input_shape)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See the class."""
        parts = self.weights_of_ids(inputs).pooled(inputs).parts()
        weights = [tf.reduce_sum(part, axis=1, keepdims=True) for _, part in parts]
        if self._numeric:
            numbers = tf.stack([inputs[name] for name in self._numeric], axis=1)
            weights.append(tf.cast(numbers, tf.float32) @ self.kernel)
        return tf.add_n(weights)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        features = [feature.get_config() for feature in self.features]
        return {**super().get_config(), "features": features}


@keras.saving.register_keras_serializable(package="clsd_tf")
class SumsFirst(keras.initializers.Initializer):
    """Starts a last Dense whose first inputs are sums that count as they are.

    Papers add a linear term, or an interaction of features, to the logit. Here each is an input of
    the last Dense with a weight that starts at 1, so that a calibration can be folded into that one
    layer. The other inputs start as `GlorotUniform`.

    Args:
      num_sums: number of leading inputs that are such sums. Defaults to 1.
    """

    def __init__(self, num_sums: int = 1):
        """See the class."""
        self.num_sums = num_sums

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: object
    ) -> tf.Tensor:
        """Returns a kernel: [inputs, units]."""
        dtype = dtype or tf.float32
        drawn = keras.initializers.GlorotUniform()(shape, dtype=dtype)
        sums = tf.ones((self.num_sums, shape[1]), dtype)
        return tf.concat([sums, drawn[self.num_sums :]], axis=0)

    def get_config(self) -> dict[str, int]:
        """See `keras.initializers.Initializer`."""
        return {"num_sums": self.num_sums}
