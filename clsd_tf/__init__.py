"""Click-confidence learning for recommenders, on TensorFlow, tf_keras and TensorFlow Recommenders.

>>> import clsd_tf
>>> confidence = clsd_tf.get_confidence("affine", num_groups=4)

Names are imported when they are first used: `import clsd_tf` alone loads no TensorFlow, and it
comes early enough to make `tf.keras` the Keras 2 that TensorFlow Recommenders needs.
"""

from __future__ import annotations

import importlib
import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# Public name -> module that defines it; a module's own name stands for the module.
_MODULE_OF = {
    # The log: one declaration, and what follows from it.
    "ActivitySpec": "features",
    "ClickLogSpec": "features",
    "ColumnSpec": "features",
    "ExplodeSpec": "features",
    "HistorySpec": "features",
    "InputSpec": "features",
    "ModelFeature": "features",
    "SplitSpec": "features",
    "TableSpec": "features",
    "SpecError": "spec",
    "parse_spec": "spec",
    "read_spec": "spec",
    "Encoder": "encoding",
    "EncodingTables": "encoding",
    "parsing_spec": "parsing",
    # Backbones: features -> logit.
    "FusedEmbedding": "embeddings",
    "keras_inputs": "embeddings",
    "backbone_names": "backbones",
    "get_backbone": "backbones",
    "register_backbone": "backbones",
    # Confidence, and how a student learns from it.
    "CONFIDENCE_FUNCTIONS": "confidence",
    "AffineConfidence": "confidence",
    "ConfidenceFunction": "confidence",
    "GlobalConfidence": "confidence",
    "GroupConfidenceHead": "confidence",
    "MixtureConfidence": "confidence",
    "MultiGranularityConfidence": "confidence",
    "combine": "confidence",
    "OnlineAffineConfidence": "online_affine",
    "OnlineMixtureConfidence": "online_mixture",
    "OnlineMultiGranularityConfidence": "granularity",
    "get_confidence": "confidence",
    "register_confidence": "confidence",
    "RunningClickMoments": "running_moments",
    "ProgressiveClicks": "progressive",
    "ScoredClicks": "progressive",
    "tail_noise_rates": "noise_rates",
    "click_loss": "losses",
    "click_weights": "losses",
    "distillation_loss": "losses",
    "soft_labels": "losses",
    # Peer methods and controls.
    "OBJECTIVES": "denoising",
    "Batch": "denoising",
    "ClickWeighing": "denoising",
    "CrossModelAgreement": "denoising",
    "LabelQuality": "denoising",
    "Objective": "denoising",
    "PersonalLossWeighing": "denoising",
    "ReweightedLoss": "denoising",
    "SatisfactionWeighing": "denoising",
    "ShuffledConfidence": "denoising",
    "TruncatedLoss": "denoising",
    "get_objective": "denoising",
    "register_objective": "denoising",
    "remove_group_offset": "group_offset",
    # Training and evaluation.
    "RowwiseAdagrad": "optimizers",
    "default_optimizer": "optimizers",
    "AffineCalibration": "calibration",
    "fit_affine": "calibration",
    "fit_affine_by_group": "calibration",
    "GroupAUC": "streaming_metrics",
    "GroupMean": "streaming_metrics",
    "metrics": "metrics",
    "ClickConfidenceModel": "model",
    "EMATeacher": "ema",
    "StoredScores": "teachers",
    "StepCheckpoint": "callbacks",
    "ConfidenceMonitor": "callbacks_monitoring",
    "GroupedValidation": "callbacks_monitoring",
    "Throughput": "callbacks_monitoring",
    "BestExport": "callbacks_control",
    "EarlyStoppingOnMean": "callbacks_control",
    "NaNStop": "callbacks_control",
    "TeacherRefresh": "callbacks_control",
    "export_model": "export",
    "TableStorage": "storage",
    "rows_touched": "storage",
}

__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> object:
    """Imports a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    value = module if name == _MODULE_OF[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists public names, loaded or not."""
    return sorted({*globals(), *__all__})
