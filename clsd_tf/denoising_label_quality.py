"""Denoising by the label quality of clicks under another model: the objective `cleanlab_style`."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from clsd_tf.denoising_base import Batch, ClickWeighing, register_objective
from clsd_tf.denoising_weights import label_quality
from clsd_tf.losses import click_weights
from clsd_tf.running_moments import RunningClickMoments


@register_objective("cleanlab_style")
@keras.saving.register_keras_serializable(package="clsd_tf")
class LabelQuality(ClickWeighing):
    """Weighs a click by its label quality under the teacher, relative to other clicks.

        w = q / mean(q over clicks)  where y = 1,    w = 1  where y = 0,    q: `label_quality`

    After cleanlab, arXiv 1911.00068, which ranks the rows of a data set by q and lets the worst be
    removed. What differs: clicks are weighed, and the means are running ones. The scores are meant
    for a teacher that has not trained on the rows (out-of-fold).

    Args:
      adjust: whether probabilities are corrected for classes of unlike difficulty. With more
        certainty about clicks than about others it changes nothing. Defaults to False.
    """

    needs_teacher = True

    def __init__(self, adjust: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.adjust = adjust
        self.click_quality = RunningClickMoments(name="click_quality")
        self.certainty_of_clicks = RunningClickMoments(name="certainty_of_clicks")
        self.certainty_of_others = RunningClickMoments(name="certainty_of_others")

    def weigh(self, losses: tf.Tensor, batch: Batch) -> tf.Tensor:
        """See the base class."""
        probabilities = tf.sigmoid(batch.lesson.teacher_logits)
        thresholds = None
        if self.adjust:
            self.certainty_of_clicks.update(probabilities, batch.labels)
            self.certainty_of_others.update(1.0 - probabilities, 1.0 - batch.labels)
            thresholds = (self.certainty_of_others.mean, self.certainty_of_clicks.mean)
        quality = label_quality(probabilities, batch.labels, thresholds=thresholds)
        self.click_quality.update(quality, batch.labels)
        return click_weights(batch.labels, quality, mean_weight=self.click_quality.mean)

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "adjust": self.adjust}
