"""FinalMLP: two streams of dense layers, each with a choice of features of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, side_by_side
from clsd_tf.features import ModelFeature
from clsd_tf.interactions import BilinearFusion

_CONTEXT_WIDTH = 16  # of a learned context


@register_backbone("final_mlp")
@keras.saving.register_keras_serializable(package="clsd_tf")
class FinalMLP(Backbone):
    """Two gated streams, joined by a bilinear form (arXiv 2304.00902, section 3).

        gate_s = 2 * sigmoid(dense layers over the context of stream s)
        o_s = dense layers over (gate_s * all features side by side),   s = 1, 2
        logit = b + <w_1, o_1> + <w_2, o_2> + sum over heads of o_1^T W o_2

    The first stream's context is the user, the second's the item: their embeddings decide how much
    each feature counts. Where there is none, a learned vector takes its place, as in the paper's
    code: the gate is the same for every impression then.

    Args:
      features: see `Backbone`.
      units: widths of the dense layers of the first stream. Defaults to (256, 128).
      other_units: of the second stream. Defaults to (256, 128).
      gate_units: hidden widths of either gate. Defaults to (64,).
      num_heads: of the bilinear form; has to divide the last width of both streams. Defaults to 2.
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        other_units: Sequence[int] = (256, 128),
        gate_units: Sequence[int] = (64,),
        num_heads: int = 2,
        name: str = "final_mlp",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, num_sums=1, name=name, **kwargs)
        self.units = tuple(units)
        self.other_units = tuple(other_units)
        self.gate_units = tuple(gate_units)
        self._contexts = tuple(self._context_of(role) for role in ("user", "item"))
        width = sum(f.dim if f.kind == "categorical" else 1 for f in self.features)
        self.gates = [_gate(self.gate_units, width, f"gate_{i}") for i in range(2)]
        self.streams = [
            dense_stack(of_stream, name=f"stream_{i}")
            for i, of_stream in enumerate((self.units, self.other_units))
        ]
        self.fusion = BilinearFusion(num_heads, name="fusion")
        self.free_contexts = [
            self.add_weight(name=f"context_{i}", shape=(1, _CONTEXT_WIDTH))
            for i, context in enumerate(self._contexts)
            if context is None
        ]

    def _context_of(self, role: str) -> str | None:
        names = [f.name for f in self.features if f.role == role and f.kind == "categorical"]
        return names[0] if names else None

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        vectors = self.pool(inputs, embedded)
        flat = self.flatten(inputs, vectors)
        free = iter(self.free_contexts)
        outputs = []
        for context, gate, stream in zip(self._contexts, self.gates, self.streams, strict=True):
            scale = gate(vectors[context] if context else tf.cast(next(free), flat.dtype))
            outputs.append(stream(2.0 * scale * flat))
        return side_by_side(self.fusion(outputs), *outputs)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "units": self.units,
            "other_units": self.other_units,
            "gate_units": self.gate_units,
            "num_heads": self.fusion.num_heads,
        }


def _gate(units: Sequence[int], width: int, name: str) -> keras.Sequential:
    gate = dense_stack(units, name=name)
    gate.add(keras.layers.Dense(width, activation="sigmoid"))
    return gate
