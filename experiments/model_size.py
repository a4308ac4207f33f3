"""How large a model is: its embedding tables one by one, and its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tf_keras as keras

from clsd_tf.embeddings import embeddings_of

_BYTES = 4  # of a float32


@dataclasses.dataclass(frozen=True)
class Part:
    """Numbers that belong together.

    Attributes:
      kind: "table" or "layer".
      name: of the table (its column), or the path of the layer.
      shape: rows and dimension of a table; empty for a layer.
      parameters: how many numbers.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    parameters: int


def parts_of_model(layers: Sequence[keras.layers.Layer]) -> list[Part]:
    """Tables in the order of their size, then layers in that of the model.

    Args:
      layers: built ones, such as the backbone and the objective.
    """
    tables: list[Part] = []
    seen: set[object] = set()
    for layer in layers:
        for fused in embeddings_of(layer):
            for variable, segments in zip(fused.whole_tables, fused.segments, strict=True):
                # Parameter servers hold a table in parts.
                shards = [part.ref() for part in getattr(variable, "variables", [variable])]
                if shards[0] in seen:
                    continue
                seen.update(shards)
                dim = int(variable.shape[1])
                tables += [Part("table", n, (r, dim), r * dim) for n, (_, r) in segments.items()]
    sizes: dict[str, int] = {}
    for layer in layers:
        for variable in layer.trainable_variables:
            if variable.ref() not in seen:
                seen.add(variable.ref())
                path = variable.name.split(":")[0].rpartition("/")[0] or layer.name
                sizes[path] = sizes.get(path, 0) + variable.shape.num_elements()
    tables.sort(key=lambda part: -part.parameters)
    return tables + [Part("layer", name, (), size) for name, size in sizes.items()]


def total_parameters(parts: Sequence[Part]) -> int:
    """Numbers in all parts together."""
    return sum(part.parameters for part in parts)


def optimizer_numbers(parts: Sequence[Part], optimizer: str) -> int:
    """Numbers that an optimizer keeps beside the parameters.

    Args:
      parts: of the model.
      optimizer: "default" (one for each row of a table, two for each dense parameter) or "adam"
        (two for each parameter).
    """
    if optimizer == "adam":
        return 2 * total_parameters(parts)
    return sum(p.shape[0] if p.kind == "table" else 2 * p.parameters for p in parts)


def float_bytes(numbers: int) -> int:
    """Bytes of so many float32."""
    return _BYTES * numbers
