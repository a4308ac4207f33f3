"""Two-tower retrieval that learns from clicks by their confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import Features, groups_of, logits_of, unpack_batch
from clsd_tf.columns import mean_pool
from clsd_tf.compat import use_keras_2
from clsd_tf.confidence import combine
from clsd_tf.embeddings import FusedEmbedding, as_features
from clsd_tf.features import ModelFeature
from clsd_tf.model import ClickConfidenceModel
from clsd_tf.optimizers import default_optimizer

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402


def click_confidence(
    model: ClickConfidenceModel, features: Features, labels: tf.Tensor
) -> tf.Tensor:
    """What a model with teacher and confidence function holds clicks to be worth: float32 [batch].

    Its teacher and its confidence function are applied as they are; nothing is trained.
    """
    groups = groups_of(features, labels, num_groups=model.num_groups, group_key=model.group_key)
    logits = logits_of(model.teacher, features)
    return tf.stop_gradient(combine(*model.confidence(logits, groups), alpha=model.alpha))


@keras.saving.register_keras_serializable(package="clsd_tf")
class Tower(keras.layers.Layer):
    """Features of one side -> a vector.

    Args:
      features: of the user's or of the item's side.
      units: widths of the hidden layers. Defaults to (64,).
      dim: of the vector. Defaults to 32.

    Input: a mapping with the features. Output: float32 [batch, dim].
    """

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (64,),
        dim: int = 32,
        **kwargs,
    ):
        """See the class."""
        super().__init__(**kwargs)
        self.features = as_features(features)
        self.units = tuple(units)
        self.dim = dim
        self.embedding = FusedEmbedding(self.features, name="embedding")
        self.dense = keras.Sequential(
            [
                *(keras.layers.Dense(width, activation="relu") for width in self.units),
                keras.layers.Dense(dim, dtype="float32"),
            ]
        )

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See the class."""
        inputs = {feature.name: inputs[feature.name] for feature in self.features}
        vectors = [
            vector if vector.shape.rank == 2 else mean_pool(vector, inputs[name])
            for name, vector in self.embedding(inputs).items()
        ]
        numbers = [
            tf.cast(inputs[feature.name], tf.float32)[:, tf.newaxis]
            for feature in self.features
            if feature.kind == "numeric"
        ]
        return self.dense(tf.concat([*vectors, *numbers], axis=1))

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        features = [feature.get_config() for feature in self.features]
        return {**super().get_config(), "features": features, "units": self.units, "dim": self.dim}


class TwoTowerModel(tfrs.Model):
    """A user tower and an item tower, trained on `tfrs.tasks.Retrieval` with click confidence.

    For the clicks i of a batch, with scores s_ij = <user_i, item_j> and confidences c:

        loss = mean over i of  - w_i * log( c_i exp(s_ii) / sum_j c_j exp(s_ij) ),
        w_i = c_i / mean(c)

    This project's reading. Weights w make the positives a sample of *interested* clicks: where item
    k is clicked with frequency q_k and confidence c_k, they occur with q*_k ~ q_k c_k. Negatives of
    a batch are drawn from clicks as they are, with q. A two-tower model learns
    log P(k | user) - log(frequency of k among negatives): left alone, it would learn
    log P*(k | user) - log q_k, and an item of many worthless clicks would be punished twice, by its
    weights and as a negative. Counting candidate j c_j times draws negatives with q*, and the score
    becomes log P*(k | user) - log q*_k: what a log of interested clicks alone would have given.
    With c = 1 it is the usual softmax over the batch. Another candidate that is the clicked item
    itself is no negative.

    Args:
      user_features: of the user's side.
      item_features: of the item's side, its id with the role "item" among them.
      scorer: a `ClickConfidenceModel` with a teacher and a fitted confidence function; its features
        are in the batches too. None takes all clicks for the same.
      correct_negatives: whether candidates count by their confidence. Defaults to True.
      units: see `Tower`.
      dim: see `Tower`.

    Input: features. Output: scores of the given pairs, [batch].
    """

    def __init__(
        self,
        user_features: Sequence[ModelFeature],
        item_features: Sequence[ModelFeature],
        scorer: ClickConfidenceModel | None = None,
        *,
        correct_negatives: bool = True,
        units: Sequence[int] = (64,),
        dim: int = 32,
        name: str = "two_tower",
    ):
        """See the class."""
        super().__init__(name=name)
        items = [feature for feature in item_features if feature.role == "item"]
        if not items:
            raise ValueError(
                "The item tower needs the item's id. Received: "
                f"{', '.join(f.name for f in item_features)}. Expected: a feature of role 'item'."
            )
        if scorer is not None and (scorer.teacher is None or scorer.confidence is None):
            raise ValueError(
                "`scorer` gives the confidence of clicks. Received: a model without teacher or "
                "confidence function. Leave it out, or pass a student."
            )
        self.item_key = items[0].name
        self.user_tower = Tower(user_features, units, dim, name="user_tower")
        self.item_tower = Tower(item_features, units, dim, name="item_tower")
        # Behind a function it is not tracked: it is neither trained nor saved with this model.
        self._scorer = lambda: scorer
        self.correct_negatives = correct_negatives
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
        self._loss_metric = keras.metrics.Mean(name="loss")

    def compile(self, optimizer: str | keras.optimizers.Optimizer | None = None, **kwargs) -> None:
        """Configures training; None for `default_optimizer`."""
        towers = [self.user_tower, self.item_tower]
        super().compile(optimizer=optimizer or default_optimizer(towers), **kwargs)

    def call(self, features: Features, training: bool | None = None) -> tf.Tensor:
        """See the class."""
        return tf.reduce_sum(self.user_tower(features) * self.item_tower(features), axis=1)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Takes one step on the clicks of a batch; sample weights count."""
        features, labels, weight = unpack_batch(data)
        with tf.GradientTape() as tape:
            loss, clicks = self._loss(features, labels, weight)
            mean_loss = tf.math.divide_no_nan(loss, clicks)
        towers = (*self.user_tower.trainable_variables, *self.item_tower.trainable_variables)
        self.optimizer.minimize(mean_loss, [*towers], tape=tape)
        self._loss_metric.update_state(mean_loss, sample_weight=clicks)
        return {"loss": self._loss_metric.result()}

    def test_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Logs the loss; `recall_at_k` judges the model."""
        loss, clicks = self._loss(*unpack_batch(data))
        self._loss_metric.update_state(tf.math.divide_no_nan(loss, clicks), sample_weight=clicks)
        return {"loss": self._loss_metric.result()}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What Keras resets between epochs."""
        return [self._loss_metric]

    def _loss(
        self, features: Features, labels: tf.Tensor, weight: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum of the losses of the clicks, and their number."""
        clicked = labels > 0.0
        scorer = self._scorer()
        confidence = tf.ones_like(labels)
        if scorer is not None:
            confidence = click_confidence(scorer, features, labels)
        # The task takes no batch without a row: one that was not clicked then counts for nothing.
        is_empty = tf.logical_not(tf.reduce_any(clicked))
        counted, clicked = clicked, clicked | (is_empty & (tf.range(tf.size(labels)) == 0))
        confidence = tf.boolean_mask(confidence * tf.cast(counted, tf.float32), clicked)
        weights = tf.math.divide_no_nan(confidence, tf.reduce_mean(confidence))
        if weight is not None:
            weights *= tf.boolean_mask(weight, clicked)
        names = {f.name for t in (self.user_tower, self.item_tower) for f in t.features}
        rows = {name: tf.boolean_mask(features[name], clicked) for name in names}
        loss = self.task(
            self.user_tower(rows),
            self.item_tower(rows),
            sample_weight=weights,
            candidate_sampling_probability=_reciprocal(confidence)
            if self.correct_negatives
            else None,
            candidate_ids=rows[self.item_key],
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        return loss, tf.reduce_sum(tf.cast(counted, tf.float32))


def _reciprocal(confidence: tf.Tensor) -> tf.Tensor:
    """A multiple of 1 / c: the task divides by it, so that a candidate counts c times.

    The task takes it for a probability and cuts it at 1: the largest is 1, since a common factor
    changes no softmax.
    """
    confidence = tf.maximum(confidence, 1e-6)
    return tf.reduce_min(confidence) / confidence
