"""`ClickConfidenceModel`: trains a backbone on clicks, each worth what a teacher believes of it."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
import tf_keras as keras

from clsd_tf.batches import Features, groups_of, logits_of, unpack_batch
from clsd_tf.compat import check_keras_2, use_keras_2
from clsd_tf.confidence import ConfidenceFunction, combine
from clsd_tf.denoising_base import Batch, Objective
from clsd_tf.distributed import all_reduce_sum
from clsd_tf.ema import EMATeacher
from clsd_tf.features import GROUP
from clsd_tf.folding import check_maps_to_logit
from clsd_tf.held_out import HeldOutFits, check_method
from clsd_tf.losses import click_loss
from clsd_tf.online_confidence import confidence_for
from clsd_tf.optimizers import check_scaling, default_optimizer
from clsd_tf.progressive import FirstPass, ProgressiveClicks
from clsd_tf.running_moments import RunningClickMoments
from clsd_tf.streaming_metrics import GroupAUC, GroupMean
from clsd_tf.student import Lesson, Student, StudentLoss
from clsd_tf.teachers import logits_of_teacher

use_keras_2()
import tensorflow_recommenders as tfrs  # noqa: E402

_LAYERS = ("backbone", "teacher", "confidence", "objective")


@keras.saving.register_keras_serializable(package="clsd_tf")
class ClickConfidenceModel(HeldOutFits, tfrs.Model):
    """A backbone that learns from clicks by their confidence, or a plain one without a teacher.

    Source: arXiv 2309.16322 (abstract): a teacher of the same architecture scores the clicks that
    it was trained on, a function of the user's group adapts the scores, and the student learns
    from both. How they are turned into a loss is this project's reading:

        loss = (1 - distillation) * L_student + distillation * CE(teacher, student)

    The model is called on features and returns probabilities [batch], which are the backbone's
    alone: teacher and confidence are used in training only. `evaluate` reports the log loss and
    the AUC of the clicks as logged, so that all models can be compared by it.

    Args:
      backbone: any `tf_keras` layer from a dict of features to logits, [batch] or [batch, 1].
      teacher: layer of the same kind, trained before, or the `ClickConfidenceModel` around it. It
        is frozen: its `trainable` is set to False. Or `StoredScores`, or an `EMATeacher`, which
        follows the student. What it says of a row does not depend on the others: it may be asked of
        clicks alone. None trains on the clicks as they are.
      confidence: name of a confidence function, or one; None with a teacher distils only.
      num_groups: number of user groups. Groups are read from the feature `group_key`.
      student: what confidence does. "weight": it weighs clicks, with a mean of 1. "soft": it
        replaces their label.
      alpha: share of the group's own confidence, in [0, 1]: c = pooled^(1-alpha) * local^alpha.
        None for the default of the confidence function: 1 for "mixture", else 0.5.
      distillation: share of the distillation loss, in [0, 1].
      temperature: > 0, softens teacher and student in the distillation loss.
      objective: another way of learning (`clsd_tf.get_objective`) in the place of the loss above.
      group_key: feature that holds the group, int [batch] in [0, num_groups).

    >>> teacher = ClickConfidenceModel(backbone(), num_groups=4)
    >>> teacher.compile()
    >>> teacher.fit(train)
    >>> student = ClickConfidenceModel(
    ...     backbone(), teacher, confidence="affine", num_groups=4, student="weight"
    ... )
    >>> student.compile()
    >>> student.fit_confidence(valid)
    >>> student.fit(train, validation_data=valid)
    """

    # `BackupAndRestore` leaves the attribute behind, and `fit` without it looks for it.
    _training_state = None

    def __init__(
        self,
        backbone: keras.layers.Layer,
        teacher: keras.layers.Layer | None = None,
        confidence: str | ConfidenceFunction | None = None,
        *,
        num_groups: int = 1,
        student: Student = "weight",
        alpha: float | None = None,
        distillation: float = 0.0,
        temperature: float = 1.0,
        objective: Objective | None = None,
        group_key: str = GROUP,
        name: str = "click_confidence_model",
        **kwargs,
    ):
        """See the class."""
        super().__init__(name=name, **kwargs)
        if isinstance(teacher, ClickConfidenceModel):
            teacher = teacher.backbone
        check_method(backbone, teacher, confidence, distillation, objective)
        self.student_loss = StudentLoss(student, distillation, temperature)
        check_maps_to_logit(backbone, "backbone")
        if teacher is not None:
            check_maps_to_logit(teacher, "teacher")
            teacher.trainable = False
        confidence = confidence_for(teacher, confidence, num_groups)
        if alpha is None:
            alpha = 1.0 if confidence is None else confidence.default_alpha
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"`alpha` must be in [0, 1]. Received: alpha={alpha}.")
        self.backbone = backbone
        self.teacher = teacher
        self.confidence = confidence
        self.num_groups = num_groups
        self.alpha = alpha
        self.objective = objective
        self.group_key = group_key
        # Of the confidence of clicks or, where non-clicks are weighed too, of all weights.
        self.mean_weight = RunningClickMoments(name="mean_weight")
        self.progressive = ProgressiveClicks(num_groups, name="progressive")
        self.calibrated = self.add_weight(
            name="calibrated", shape=(), dtype=tf.bool, initializer="zeros", trainable=False
        )
        # Metrics are of all replicas already, on each of them; Keras would add them up.
        self.distribute_reduction_method = "first"
        self._loss_metric = keras.metrics.Mean(name="loss")
        self._confidence_metric = GroupMean(num_groups, name="confidence")
        self._auc_metric = GroupAUC(num_groups, name="auc")

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        loss: None = None,
        **kwargs,
    ) -> None:
        """Configures training; see `keras.Model.compile`.

        Args:
          optimizer: None for `default_optimizer`, Adam and row-wise Adagrad.
          loss: must be left out, the model has its own.
          **kwargs: for Keras. Metrics are given labels and probabilities, [batch, 1].
        """
        if loss is not None:
            raise ValueError(
                f"The loss belongs to the model. Received: loss={loss!r}. Leave it out; `student`, "
                "`distillation` and `confidence` choose what is minimised."
            )
        check_keras_2([optimizer], "optimizer")
        for name in ("metrics", "weighted_metrics"):
            check_keras_2(tf.nest.flatten(kwargs.get(name)), name)
        kwargs.setdefault("weighted_metrics", [])  # Keras warns of weights without it
        optimizer = optimizer or default_optimizer(self.learners)
        check_scaling(optimizer, self.dtype_policy)
        super().compile(optimizer=optimizer, **kwargs)

    def call(self, features: Features, training: bool | None = None) -> tf.Tensor:
        """Returns probabilities, float32 [batch]; `output_meaning` says of what."""
        return tf.sigmoid(logits_of(self.backbone, features, training=training))

    @property
    def output_meaning(self) -> str:
        """What a predicted probability estimates."""
        if keras.backend.get_value(self.calibrated):
            return "click rate, calibrated on held-out impressions"
        if self.objective is not None and self.objective.output_meaning is not None:
            return self.objective.output_meaning
        if self.student_loss.student == "soft" and self.confidence is not None:
            return self.confidence.estimates
        if self.confidence is not None:
            return "click rate, approximately: clicks weighed by confidence, not calibrated"
        return "click rate"

    def fit(self, *args, **kwargs) -> keras.callbacks.History:
        """Trains; see `keras.Model.fit`. The first epoch is taken to be of rows not seen before."""
        callbacks = kwargs.pop("callbacks", None) or []
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            # First, so that a checkpoint at the end of an epoch sees it closed.
            callbacks = [FirstPass(self.progressive), *tf.nest.flatten(callbacks)]
            check_keras_2(callbacks, "callbacks")
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Takes one step; logs the loss and the mean confidence of clicks per group."""
        features, labels, weight = unpack_batch(data)
        own = () if self.objective is None else self.objective.columns
        inputs = {name: values for name, values in features.items() if name not in own}
        with tf.GradientTape() as tape:
            logits = logits_of(self.backbone, inputs, training=True)
            with tape.stop_recording():  # no gradient can reach teacher or confidence
                lesson = None if self.teacher is None else self._teach(inputs, labels)
            if self.objective is None:
                losses = self.student_loss(logits, labels, lesson)
            else:
                batch = Batch(features, labels, lesson, self.student_loss)
                losses = self.objective(logits, batch)
            if isinstance(self.teacher, EMATeacher):
                losses = tf.where(self.teacher.is_warm, losses, click_loss(logits, labels))
            # Replicas may have different numbers of rows, above all in the last batch.
            rows = all_reduce_sum(tf.cast(tf.size(losses), tf.float32))
            total = tf.nn.compute_average_loss(losses, weight, tf.cast(rows, tf.int32))
            if self.backbone.losses:
                penalty = tf.add_n(self.backbone.losses)
                total += tf.nn.scale_regularization_loss(penalty)
        learned = [v for layer in self.learners for v in layer.trainable_variables]
        self.optimizer.minimize(total, learned, tape=tape)
        if self.objective is not None:
            self.objective.step.assign_add(1)

        groups = self._groups(inputs, labels)
        self.progressive.update(logits, labels, groups)
        self._loss_metric.update_state(losses, sample_weight=weight)
        logged = [self._loss_metric]
        if lesson is not None and lesson.confidence is not None:
            self._confidence_metric.update_state(lesson.confidence, groups, sample_weight=labels)
            logged.append(self._confidence_metric)
        return self._results(logged, logits, labels, weight)

    def test_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Logs the log loss and the AUC, overall and per group, of the clicks as logged."""
        features, labels, weight = unpack_batch(data)
        logits = logits_of(self.backbone, features, training=False)
        self._loss_metric.update_state(click_loss(logits, labels), sample_weight=weight)
        self._auc_metric.update_state(
            labels, logits, self._groups(features, labels), sample_weight=weight
        )
        return self._results([self._loss_metric, self._auc_metric], logits, labels, weight)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        layers = {name: getattr(self, name) for name in _LAYERS}
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            **{key: layer and serialize(layer) for key, layer in layers.items()},
            **dataclasses.asdict(self.student_loss),
            "alpha": self.alpha,
            "num_groups": self.num_groups,
            "group_key": self.group_key,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> ClickConfidenceModel:
        """See `keras.Model`."""
        deserialize = keras.saving.deserialize_keras_object
        layers = {key: config[key] and deserialize(config[key], custom_objects) for key in _LAYERS}
        return cls(**{**config, **layers})

    @property
    def learners(self) -> list[keras.layers.Layer]:
        """Layers whose weights the optimizer changes."""
        return [layer for layer in (self.backbone, self.objective) if layer is not None]

    @property
    def _clicks_suffice(self) -> bool:
        """Whether nobody reads what the teacher says of impressions that were not clicked."""
        if self.objective is not None or self.confidence is None or self.student_loss.distillation:
            return False
        return self.confidence.clicks_suffice

    def _teach(self, features: Features, labels: tf.Tensor) -> Lesson:
        teacher_logits = logits_of_teacher(
            self.teacher,
            self.backbone,
            features,
            labels,
            clicks_suffice=self._clicks_suffice,
        )
        if self.confidence is None:
            return Lesson(teacher_logits)
        groups = self._groups(features, labels)
        self.confidence.update(teacher_logits, labels, groups)
        confidence = combine(*self.confidence(teacher_logits, groups), alpha=self.alpha)
        others = self.confidence.non_click_weights(groups)
        if others is None:
            self.mean_weight.update(confidence, labels)
        else:
            weights = tf.where(labels > 0.0, confidence, others)
            self.mean_weight.update(weights, tf.ones_like(weights))
        distilled = self.confidence.interest_logits(teacher_logits, groups)
        emphasis = self.confidence.emphasis(teacher_logits, groups)
        return Lesson(distilled, confidence, others, self.mean_weight.mean, emphasis)

    def _results(
        self,
        logged: list[keras.metrics.Metric],
        logits: tf.Tensor,
        labels: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        """Values of the given metrics and of those given to `compile`."""
        column = tf.newaxis
        probabilities = tf.sigmoid(logits)[:, column]
        self.compiled_metrics.update_state(labels[:, column], probabilities, sample_weight=weight)
        results: dict[str, tf.Tensor] = {}
        for metric in (*logged, *self.compiled_metrics.metrics):
            value = metric.result()
            results |= value if isinstance(value, dict) else {metric.name: value}
        return results

    def _groups(self, features: Features, labels: tf.Tensor) -> tf.Tensor:
        return groups_of(features, labels, num_groups=self.num_groups, group_key=self.group_key)
