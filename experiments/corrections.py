"""Controls that need no student: what group noise rates can do to the scores of a plain model."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from scipy import special

from clsd_tf import ClickConfidenceModel, get_confidence
from clsd_tf.group_offset import remove_group_offset
from experiments.arms import get_arm
from experiments.evaluation import ScoredSplit
from experiments.runs import TrainConfig


def as_served(scored: ScoredSplit, model: ClickConfidenceModel, config: TrainConfig) -> ScoredSplit:
    """The scores that the arm of a run would serve: those of its model, or what is made of them.

    Args:
      scored: a split, scored by the model.
      model: the trained model, with what it scored before it trained on it: noise rates are
        estimated on these clicks, as `mixture` estimates those of a teacher.
      config: of the run.
    """
    correction = get_arm(config.method).correction
    if correction is None:
        return scored
    rates = config.method_options.get("rates")
    mixture = get_confidence("mixture", model.num_groups, rates=rates)
    mixture.fit_held_out(*model.progressive_clicks[:4])
    if correction == "group_offset":
        scores = remove_group_offset(scored.scores, scored.groups, mixture.noise_rates.numpy())
    else:
        logits = tf.constant(special.logit(scored.scores), tf.float32)
        interest = mixture.interest_logits(logits, tf.constant(scored.groups))
        scores = tf.sigmoid(interest).numpy().astype(np.float64)
    return dataclasses.replace(scored, scores=scores)
