"""Click-confidence learning for recommenders, on TensorFlow, tf_keras and TensorFlow Recommenders.

>>> import clsd_tf
>>> confidence = clsd_tf.get_confidence("affine", num_groups=4)

Names are imported when they are first used: `import clsd_tf` alone loads no TensorFlow, and it
comes early enough to make `tf.keras` the Keras 2 that TensorFlow Recommenders needs.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # the same names, for whoever reads types and runs nothing
    from clsd_tf import metrics as metrics
    from clsd_tf.backbones import backbone_names as backbone_names
    from clsd_tf.backbones import get_backbone as get_backbone
    from clsd_tf.backbones import register_backbone as register_backbone
    from clsd_tf.callbacks import StepCheckpoint as StepCheckpoint
    from clsd_tf.callbacks_control import BestExport as BestExport
    from clsd_tf.callbacks_control import EarlyStoppingOnMean as EarlyStoppingOnMean
    from clsd_tf.callbacks_control import NaNStop as NaNStop
    from clsd_tf.callbacks_control import TeacherRefresh as TeacherRefresh
    from clsd_tf.callbacks_monitoring import ConfidenceMonitor as ConfidenceMonitor
    from clsd_tf.callbacks_monitoring import GroupedValidation as GroupedValidation
    from clsd_tf.callbacks_monitoring import Throughput as Throughput
    from clsd_tf.confidence import ConfidenceFunction as ConfidenceFunction
    from clsd_tf.confidence import get_confidence as get_confidence
    from clsd_tf.confidence import register_confidence as register_confidence
    from clsd_tf.denoising import Objective as Objective
    from clsd_tf.denoising import get_objective as get_objective
    from clsd_tf.denoising import register_objective as register_objective
    from clsd_tf.ema import EMATeacher as EMATeacher
    from clsd_tf.embeddings import FusedEmbedding as FusedEmbedding
    from clsd_tf.encoding import Encoder as Encoder
    from clsd_tf.export import export_model as export_model
    from clsd_tf.features import ClickLogSpec as ClickLogSpec
    from clsd_tf.features import ModelFeature as ModelFeature
    from clsd_tf.model import ClickConfidenceModel as ClickConfidenceModel
    from clsd_tf.optimizers import RowwiseAdagrad as RowwiseAdagrad
    from clsd_tf.optimizers import default_optimizer as default_optimizer
    from clsd_tf.spec import SpecError as SpecError
    from clsd_tf.spec import parse_spec as parse_spec
    from clsd_tf.spec import read_spec as read_spec
    from clsd_tf.teachers import StoredScores as StoredScores

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
