"""Denoising by the agreement of two models: the objective `decap_style`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones.mlp import MLP
from clsd_tf.batches import logits_of
from clsd_tf.denoising_base import Batch, Objective, register_objective, require_in
from clsd_tf.embeddings import as_features
from clsd_tf.features import ModelFeature
from clsd_tf.losses import click_loss


def agreement_loss(logits: tf.Tensor, teacher_logits: tf.Tensor, *, agreement: float) -> tf.Tensor:
    """Distance of two models' beliefs in what the user wants.

        loss = a * KL(g || f) + (1 - a) * KL(f || g),    f = sigmoid(z), g = sigmoid(z_T)

    Args:
      logits: z, float [batch].
      teacher_logits: z_T, float [batch]; no gradient flows into them.
      agreement: a, in [0, 1].

    Returns:
      float32 [batch], in nats, >= 0.
    """
    z, teacher = tf.cast(logits, tf.float32), tf.stop_gradient(tf.cast(teacher_logits, tf.float32))
    # For two Bernoullis: KL(q || p) = q * (z_q - z_p) + softplus(z_p) - softplus(z_q).
    gap = teacher - z
    change = tf.math.softplus(teacher) - tf.math.softplus(z)
    from_teacher = tf.sigmoid(teacher) * gap - change
    to_teacher = change - tf.sigmoid(z) * gap
    return agreement * from_teacher + (1.0 - agreement) * to_teacher


def observation_log_likelihood(
    logits: tf.Tensor,
    labels: tf.Tensor,
    noise_logits: tf.Tensor,
    *,
    denoise_positives: bool,
    impossible: float,
) -> tf.Tensor:
    """Expected log likelihood of the observed label, over what the user wants by the model.

        positives: E = (1-f) * log h                where y = 1,   h = P(click | not wanted)
                   E = (1-f) * log(1-h) - C * f     where y = 0
        negatives: E = f * log h - C * (1-f)        where y = 1,   h = P(click | wanted)
                   E = f * log(1-h)                 where y = 0

    One kind of noise is looked for at a time. What is then impossible, such as a wanted item
    without a click, has a log likelihood of -C instead of minus infinity.

    Args:
      logits: of f, float [batch].
      labels: [batch], in {0, 1}.
      noise_logits: of h, float [batch].
      denoise_positives: which of the two.
      impossible: C, > 0.

    Returns:
      float32 [batch], in nats, <= 0.
    """
    logits, labels = tf.cast(logits, tf.float32), tf.cast(labels, tf.float32)
    wanted, unwanted = tf.sigmoid(logits), tf.sigmoid(-logits)
    observed = -click_loss(noise_logits, labels)
    if denoise_positives:
        return unwanted * observed - impossible * wanted * (1.0 - labels)
    return wanted * observed - impossible * unwanted * labels


@register_objective("decap_style")
@keras.saving.register_keras_serializable(package="clsd_tf")
class CrossModelAgreement(Objective):
    """Agrees with a pretrained model and explains the clicks by two learned noise models.

        loss = agreement_loss(f, g) - E,    E: `observation_log_likelihood`

    After DeCA(p), WWW 2022, arXiv 2105.09605: f is the backbone, g the teacher, frozen; steps
    alternate between positives and negatives, each with a noise model of its own. What differs:
    non-clicks are impressions of the log where the source samples items that were never shown, and
    noise models are small MLPs of all features where they are factorisations of user and item.

    Args:
      features: of the model, as its noise models see them.
      agreement: share of KL(g || f), in [0, 1]. Defaults to 0.5.
      impossible_positive: C of a wanted item without a click, > 0. Defaults to 1.
      impossible_negative: C of an unwanted item with a click, > 0. Defaults to 1.
      dim: embedding dimension of the noise models. Defaults to 4.
      units: widths of their hidden layers. Defaults to (16,).
    """

    needs_teacher = True
    output_meaning = "probability that the item is wanted, whose level is arbitrary"

    def __init__(
        self,
        features: Sequence[ModelFeature],
        agreement: float = 0.5,
        impossible_positive: float = 1.0,
        impossible_negative: float = 1.0,
        dim: int = 4,
        units: Sequence[int] = (16,),
        **kwargs,
    ):
        require_in("in [0, 1]", 0.0 <= agreement <= 1.0, agreement=agreement)
        require_in("> 0", impossible_positive > 0.0, impossible_positive=impossible_positive)
        require_in("> 0", impossible_negative > 0.0, impossible_negative=impossible_negative)
        super().__init__(**kwargs)
        self.features = tuple(dataclasses.replace(f, dim=dim) for f in as_features(features))
        self.agreement = agreement
        self.impossible_positive = impossible_positive
        self.impossible_negative = impossible_negative
        self.dim = dim
        self.units = tuple(units)
        self.positive_noise, self.negative_noise = (
            MLP(self.features, self.units, name=name)
            for name in ("positive_noise", "negative_noise")
        )

    def call(self, logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        positives = observation_log_likelihood(
            logits,
            batch.labels,
            logits_of(self.positive_noise, batch.features, training=True),
            denoise_positives=True,
            impossible=self.impossible_positive,
        )
        negatives = observation_log_likelihood(
            logits,
            batch.labels,
            logits_of(self.negative_noise, batch.features, training=True),
            denoise_positives=False,
            impossible=self.impossible_negative,
        )
        likelihood = tf.where(self.step % 2 == 0, positives, negatives)
        teacher_logits = batch.lesson.teacher_logits
        return agreement_loss(logits, teacher_logits, agreement=self.agreement) - likelihood

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "features": [feature.get_config() for feature in self.features],
            "agreement": self.agreement,
            "impossible_positive": self.impossible_positive,
            "impossible_negative": self.impossible_negative,
            "dim": self.dim,
            "units": self.units,
        }
