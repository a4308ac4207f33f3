"""Wide & Deep: a linear model that memorises beside dense layers that generalise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack, side_by_side
from clsd_tf.candidates import through
from clsd_tf.features import ModelFeature
from clsd_tf.linear import LinearTerm


@dataclasses.dataclass(frozen=True)
class _Cross:
    """Two features whose pairs of values are ids of their own, hashed where they are too many."""

    one: str
    other: str
    one_size: int
    other_size: int
    num_buckets: int

    @property
    def name(self) -> str:
        return f"{self.one} x {self.other}"

    @property
    def size(self) -> int:
        return min(self.one_size * self.other_size, self.num_buckets)

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Ids in [0, size), int64 [batch]."""
        one, other = (tf.cast(inputs[name], tf.int64) for name in (self.one, self.other))
        pair = one * self.other_size + other
        if self.size < self.one_size * self.other_size:
            # Fibonacci hashing (Knuth): neighbours are spread before the remainder is taken.
            pair = tf.bitwise.right_shift(pair * 7046029254386353131, tf.constant(20, tf.int64))
        return tf.math.floormod(pair, tf.constant(self.size, tf.int64))


@register_backbone("wide_deep")
@keras.saving.register_keras_serializable(package="clsd_tf")
class WideDeep(Backbone):
    """A linear term over ids and their crosses, and dense layers over embeddings.

        logit = b + <w_wide, [x, cross(x)]> + <w_deep, h>

    with h the last hidden layer and cross(x) the pairs of ids of `crosses`. Source: arXiv
    1606.07792, equation 3. The paper trains the wide part by FTRL; here it gets the optimizer of
    embeddings.

    Args:
      features: see `Backbone`.
      units: widths of the dense layers. Defaults to (256, 128).
      crosses: pairs of names of categorical features that are no lists; each pair of values gets a
        weight of its own. Defaults to none.
      num_cross_buckets: most weights for one cross. Above it pairs share weights by a hash.
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        units: Sequence[int] = (256, 128),
        crosses: Sequence[Sequence[str]] = (),
        num_cross_buckets: int = 1_000_000,
        name: str = "wide_deep",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, num_sums=1, name=name, **kwargs)
        self.units = tuple(units)
        self.num_cross_buckets = num_cross_buckets
        singles = {
            feature.name: feature.cardinality
            for feature in self.features
            if feature.kind == "categorical" and not feature.is_list
        }
        for pair in crosses:
            if len(pair) != 2 or not singles.keys() >= set(pair):
                raise ValueError(
                    "`crosses` are pairs of categorical features that are no lists. Received: "
                    f"{tuple(pair)}. Expected two of: {', '.join(singles)}."
                )
        self._crosses = tuple(
            _Cross(one, other, singles[one], singles[other], num_cross_buckets)
            for one, other in crosses
        )
        crossed = [
            ModelFeature(cross.name, "categorical", cardinality=cross.size, dim=1, table=cross.name)
            for cross in self._crosses
        ]
        self.wide = LinearTerm([*self.features, *crossed], name="wide")
        self.deep = dense_stack(self.units, name="deep")

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class."""
        crossed = {cross.name: cross(inputs) for cross in self._crosses}
        wide = self.wide({**inputs, **crossed})
        columns = self.columns(inputs, self.pool(inputs, embedded))
        return side_by_side(wide, through(self.deep, columns))

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "units": self.units,
            "crosses": tuple((cross.one, cross.other) for cross in self._crosses),
            "num_cross_buckets": self.num_cross_buckets,
        }
