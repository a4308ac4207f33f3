"""Builds the models that a run's config describes, and keeps their weights."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from clsd_tf import (
    ClickConfidenceModel,
    EMATeacher,
    Objective,
    default_optimizer,
    get_backbone,
    get_confidence,
)
from clsd_tf.encoding import Encoder
from clsd_tf.features import ModelFeature
from clsd_tf.online_confidence import online_confidence
from clsd_tf.precision import computing_in
from experiments.runs import Run, TrainConfig

_WEIGHTS = "weights"


def build_model(
    config: TrainConfig,
    encoder: Encoder,
    teacher: keras.layers.Layer | None = None,
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
    backbone = _build_backbone(config, encoder)
    options: dict = {**config.options} if teacher is not None else {}
    if "confidence" in options:
        # A teacher that changes has no held-out rows: what is fitted is learned along with it.
        build = online_confidence if isinstance(teacher, EMATeacher) else get_confidence
        options["confidence"] = build(
            options["confidence"], encoder.num_groups, **config.confidence_options
        )
    model = ClickConfidenceModel(
        backbone, teacher, num_groups=encoder.num_groups, objective=objective, **options
    )
    model.compile(_optimizer(config, [backbone] if objective is None else [backbone, objective]))
    return model


def check_confidence(config: TrainConfig, encoder: Encoder) -> None:
    """Raises ValueError for mistaken options of the confidence function, before any training."""
    if "confidence" in config.options:
        build = online_confidence if config.teacher == "ema" else get_confidence
        build(str(config.options["confidence"]), encoder.num_groups, **config.confidence_options)


def build_ema_teacher(config: TrainConfig, encoder: Encoder) -> EMATeacher:
    """A teacher that will follow a student of the config."""
    return EMATeacher(_build_backbone(config, encoder))


def _build_backbone(config: TrainConfig, encoder: Encoder) -> keras.layers.Layer:
    options: dict[str, Any] = config.backbone_options
    if "dtype" in options:
        raise ValueError(
            "What a backbone computes in is not one of its options. Received: --backbone_options "
            f"with dtype={options['dtype']!r}. Expected: --precision."
        )
    keras.utils.set_random_seed(config.seed)
    features = encoder.model_features
    with computing_in(config.precision):  # also what is made with the weights
        backbone = get_backbone(config.backbone, features, **options)
        # Weights exist from here on: they do not depend on the first batch.
        backbone({feature.name: _placeholder(feature) for feature in features})
    return backbone


def save_model(model: ClickConfidenceModel, directory: pathlib.Path) -> None:
    """Writes the model's weights and what it scored before it trained on it.

    Neither its teacher's weights nor its optimizer's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _checkpoint(model).write(str(directory / _WEIGHTS))


def weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """Files in which `save_model` has put the weights."""
    return sorted(directory.glob(f"{_WEIGHTS}.*"))


def load_model(run: Run, config: TrainConfig, *, part: str = "student") -> ClickConfidenceModel:
    """The trained student of a run, or its teacher.

    Raises:
      ValueError: that part of the run is not trained, or does not fit its config.
    """
    encoder = Encoder.load(run.encoding)
    directory = run.directory / part
    if not (directory / f"{_WEIGHTS}.index").exists():
        raise ValueError(
            f"The run in {run.directory} has no trained {part}. Received: no weights of it. "
            "Expected: those that `clsd-train` leaves; train the run again."
        )
    model = build_model(config, encoder)
    _checkpoint(model).read(str(directory / _WEIGHTS)).assert_existing_objects_matched()
    return model


def _checkpoint(model: ClickConfidenceModel) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(
        backbone=model.backbone, calibrated=model.calibrated, progressive=model.progressive
    )


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
