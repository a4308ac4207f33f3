"""Deep & Cross Network V2 with low-rank cross layers."""

from __future__ import annotations

from collections.abc import Sequence

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.dcn_v2 import DCNv2
from clsd_tf.features import ModelFeature


@register_backbone("dcn_v2_low_rank")
def dcn_v2_low_rank(features: Sequence[ModelFeature], **kwargs) -> DCNv2:
    """`DCNv2` whose kernels have a quarter of the full rank: half as many weights to cross.

        x_{l+1} = x_0 * (U (V x_l) + b) + x_l,   U [width, width / 4], V [width / 4, width]

    Source: arXiv 2008.13535, equation 2, and section 7.3 for the quarter.

    Args:
      features: see `Backbone`.
      **kwargs: for `DCNv2`.
    """
    width = sum(f.dim if f.kind == "categorical" else 1 for f in features)
    kwargs.setdefault("projection_dim", max(1, width // 4))
    return DCNv2(features, **kwargs)
