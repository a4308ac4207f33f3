"""The peer methods and controls of click confidence, by name: `OBJECTIVES`.

`t_ce`, `r_ce` and `pld_style` trust a click by the model's own loss on it, `decap_style` and
`cleanlab_style` by another model; `shuffled` and `oracle` are the bounds between which a gain lies.
"""

from __future__ import annotations

from clsd_tf.denoising_agreement import CrossModelAgreement
from clsd_tf.denoising_base import (
    OBJECTIVES,
    Batch,
    ClickWeighing,
    Objective,
    get_objective,
    register_objective,
)
from clsd_tf.denoising_by_loss import PersonalLossWeighing, ReweightedLoss, TruncatedLoss
from clsd_tf.denoising_controls import SatisfactionWeighing, ShuffledConfidence
from clsd_tf.denoising_label_quality import LabelQuality

__all__ = [
    "OBJECTIVES",
    "Batch",
    "ClickWeighing",
    "CrossModelAgreement",
    "LabelQuality",
    "Objective",
    "PersonalLossWeighing",
    "ReweightedLoss",
    "SatisfactionWeighing",
    "ShuffledConfidence",
    "TruncatedLoss",
    "get_objective",
    "register_objective",
]
