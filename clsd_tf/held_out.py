"""What a model is given of rows that were not trained on: confidence and calibration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import score_batches
from clsd_tf.calibration import fit_affine
from clsd_tf.confidence_base import group_names
from clsd_tf.folding import fold_affine
from clsd_tf.progressive import ProgressiveClicks, ScoredClicks

if TYPE_CHECKING:
    import tensorflow as tf

    from clsd_tf.confidence_base import ConfidenceFunction
    from clsd_tf.denoising_base import Objective


class HeldOutFits:
    """The part of `ClickConfidenceModel` that fits parameters on held-out rows, not by steps."""

    backbone: keras.layers.Layer
    teacher: keras.layers.Layer | None
    confidence: ConfidenceFunction | None
    progressive: ProgressiveClicks
    num_groups: int
    group_key: str
    calibrated: tf.Variable
    _confidence_metric: keras.metrics.Metric

    @property
    def progressive_clicks(self) -> ScoredClicks:
        """Impressions of the first pass, with the logits before they were trained on.

        Raises:
          ValueError: there was no training.
        """
        return self.progressive.rows()

    def fit_confidence(self, held_out: Iterable | ScoredClicks) -> None:
        """Fits the confidence function on rows that the teacher has not trained on.

        Does nothing where the function learns all it needs while the student trains.

        Args:
          held_out: batches (features, label, ...), such as those of the validation days; or scored
            impressions, such as `progressive_clicks` of the teacher.

        Raises:
          ValueError: there is no confidence function, or the rows do not allow a fit, or they are
            of other groups.
        """
        if self.confidence is None:
            raise ValueError(
                "There is no confidence function to fit. Received: confidence=None. Expected: a "
                "model that was built with one, such as confidence='mixture'."
            )
        if self.confidence.needs_held_out:
            if not isinstance(held_out, ScoredClicks):
                held_out = ScoredClicks(*self._score(self.teacher, held_out))
            if held_out.num_groups not in (None, self.num_groups):
                raise ValueError(
                    "The scored clicks are of other groups. Received: num_groups="
                    f"{held_out.num_groups}. Expected: {self.num_groups}. Build the teacher's "
                    f"ClickConfidenceModel with num_groups={self.num_groups}."
                )
            self.confidence.fit_held_out(*held_out[:4])

    def confidence_table(self, names: Sequence[str] | None = None) -> list[dict[str, object]]:
        """The confidence function for reading: a row for each group, and one for all together.

        Args:
          names: of the groups, in the order of their ids. Defaults to the ids.

        Returns:
          Rows with `group`, the function's own parameters (`ConfidenceFunction.table`), and of the
          last epoch's training clicks the number, `clicks`, and the mean, `mean_confidence`, None
          without any.

        Raises:
          ValueError: there is no confidence function.
        """
        if self.confidence is None:
            raise ValueError(
                "There is no confidence function to tell of. Received: None. Expected: a model "
                "that was built with one, such as confidence='mixture'."
            )
        names = group_names(names, self.num_groups)
        metric = self._confidence_metric
        totals, clicks = (tf.convert_to_tensor(v).numpy() for v in (metric.total, metric.weight))
        parameters = {str(row["group"]): row for row in self.confidence.table(names)}
        # A function tells of all groups together under a name that is no group's, if it does.
        of_all = next((name for name in parameters if name not in names), "all")
        sums = [*zip(names, totals, clicks, strict=True)]
        if of_all not in names:
            sums.insert(0, (of_all, totals.sum(), clicks.sum()))
        return [
            {
                **parameters.get(name, {"group": name}),
                "clicks": float(count),
                "mean_confidence": float(total / count) if count else None,
            }
            for name, total, count in sums
        ]

    def evaluate(self, *args: object, **kwargs: object) -> object:
        """As in Keras, and what was counted of the last epoch's training clicks stays.

        `fit` comes here after each epoch where it has validation data.
        """
        with self.counted_clicks_kept():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    @contextlib.contextmanager
    def counted_clicks_kept(self) -> Iterator[None]:
        """Keeps what `confidence_table` tells of training clicks, though metrics are reset inside.

        Whoever validates resets all metrics before, as Keras does.
        """
        counted = self._confidence_metric.get_weights()
        yield
        self._confidence_metric.set_weights(counted)

    def calibrate(self, held_out: Iterable) -> None:
        """Makes the output a click rate: folds a scale and a bias into the backbone's last layer.

        Scale and bias minimise the log loss of the clicks in `held_out` (Platt scaling). Order,
        graph and cost of serving stay the same.

        Raises:
          ValueError: the backbone does not end in a Dense, or the rows do not allow a fit.
        """
        logits, labels, _ = self._score(self.backbone, held_out)
        scale, bias = fit_affine(logits, labels)
        fold_affine(self.backbone, float(scale), float(bias))
        self.calibrated.assign(True)

    def _score(
        self, layer: keras.layers.Layer, batches: Iterable
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return score_batches(layer, batches, num_groups=self.num_groups, group_key=self.group_key)


def check_method(
    backbone: keras.layers.Layer,
    teacher: keras.layers.Layer | None,
    confidence: keras.layers.Layer | str | None,
    distillation: float,
    objective: Objective | None,
) -> None:
    """Raises ValueError for arguments that do nothing, or lack what they need."""
    if teacher is not None and backbone in (teacher, getattr(teacher, "backbone", None)):
        raise ValueError(
            "A model cannot be its own frozen teacher. Received: the same object as `backbone` and "
            "`teacher`. Build the student's backbone anew."
        )
    if teacher is None and (confidence is not None or distillation):
        raise ValueError(
            "Confidence and distillation need a teacher. Received: teacher=None, "
            f"confidence={confidence!r}, distillation={distillation}."
        )
    if objective is not None:
        objective.require_taught(teacher, confidence, distillation)
    taught = confidence is not None or distillation or (objective and objective.needs_teacher)
    if teacher is not None and not taught:
        raise ValueError(
            "The teacher would not be used. Received: confidence=None, distillation=0. Name a "
            "confidence function, set `distillation`, or leave the teacher out."
        )
