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

# Public name -> module that defines it; a module's own name stands for the module. What is here is
# kept by semantic versioning; what is in submodules alone may change (docs/api/public.md).
_MODULE_OF = {
    # The log: one declaration, and what follows from it.
    "ClickLogSpec": "features",
    "ModelFeature": "features",
    "SpecError": "spec",
    "parse_spec": "spec",
    "read_spec": "spec",
    "Encoder": "encoding",
    # Backbones: features -> logit.
    "FusedEmbedding": "embeddings",
    "backbone_names": "backbones",
    "get_backbone": "backbones",
    "register_backbone": "backbones",
    # Confidence, teachers, other ways of learning.
    "ConfidenceFunction": "confidence",
    "get_confidence": "confidence",
    "register_confidence": "confidence",
    "EMATeacher": "ema",
    "StoredScores": "teachers",
    "Objective": "denoising",
    "get_objective": "denoising",
    "register_objective": "denoising",
    # Training, evaluation, serving.
    "ClickConfidenceModel": "model",
    "RowwiseAdagrad": "optimizers",
    "default_optimizer": "optimizers",
    "metrics": "metrics",
    "export_model": "export",
    # Callbacks.
    "BestExport": "callbacks_control",
    "ConfidenceMonitor": "callbacks_monitoring",
    "EarlyStoppingOnMean": "callbacks_control",
    "GroupedValidation": "callbacks_monitoring",
    "NaNStop": "callbacks_control",
    "StepCheckpoint": "callbacks",
    "TeacherRefresh": "callbacks_control",
    "Throughput": "callbacks_monitoring",
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
