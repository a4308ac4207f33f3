"""Builds the models that a run's config describes, and keeps their weights."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf import (
    ClickConfidenceModel,
    Objective,
    default_optimizer,
    get_backbone,
    get_confidence,
)
from clsd_tf.encoding import Encoder
from clsd_tf.features import ModelFeature
from experiments.runs import Run, TrainConfig

_WEIGHTS = "weights"


def build_model(
    config: TrainConfig,
    encoder: Encoder,
    teacher: ClickConfidenceModel | None = None,
    objective: Objective | None = None,
) -> ClickConfidenceModel:
    """Builds and compiles a model with the initial weights of the config's seed.

    Args:
      config: of the run.
      encoder: of its data.
      teacher: None for the model that learns from clicks as they are: the plain arm, and every
        teacher.
      objective: of the arm, see `experiments.objectives`; None for every teacher.
    """
    keras.utils.set_random_seed(config.seed)
    backbone = get_backbone(config.backbone, encoder.model_features, **config.backbone_options)
    options = dict(config.options) if teacher is not None else {}
    if "confidence" in options:
        options["confidence"] = get_confidence(
            options["confidence"], encoder.num_groups, **config.confidence_options
        )
    model = ClickConfidenceModel(
        backbone, teacher, num_groups=encoder.num_groups, objective=objective, **options
    )
    model.compile(_optimizer(config, [backbone] if objective is None else [backbone, objective]))
    # Weights exist from here on: they do not depend on the first batch.
    model({feature.name: _placeholder(feature) for feature in encoder.model_features})
    return model


def save_model(model: ClickConfidenceModel, directory: pathlib.Path) -> None:
    """Writes the model's weights, without those of its teacher and optimizer."""
    directory.mkdir(parents=True, exist_ok=True)
    _checkpoint(model).write(str(directory / _WEIGHTS))


def load_model(run: Run, config: TrainConfig, *, part: str = "student") -> ClickConfidenceModel:
    """The trained student of a run, or its teacher.

    Raises:
      ValueError: that part of the run is not trained, or does not fit its config.
    """
    encoder = Encoder.load(run.encoding)
    directory = run.directory / part
    if not (directory / f"{_WEIGHTS}.index").exists():
        raise ValueError(f"The run in {run.directory} has no trained {part}.")
    model = build_model(config, encoder)
    _checkpoint(model).read(str(directory / _WEIGHTS)).assert_existing_objects_matched()
    return model


def _checkpoint(model: ClickConfidenceModel) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(backbone=model.backbone, calibrated=model.calibrated)


def _optimizer(
    config: TrainConfig, layers: Sequence[keras.layers.Layer]
) -> keras.optimizers.Optimizer:
    if config.optimizer == "adam":
        return keras.optimizers.Adam(config.learning_rate)
    return default_optimizer(
        layers,
        learning_rate=config.learning_rate,
        embedding_learning_rate=config.embedding_learning_rate,
    )


def _placeholder(feature: ModelFeature) -> tf.Tensor:
    shape = [1, feature.length] if feature.is_list else [1]
    return tf.zeros(shape, tf.float32 if feature.kind == "numeric" else tf.int64)
