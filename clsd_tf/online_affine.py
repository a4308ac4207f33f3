"""`affine` confidence that is fitted while the student trains, for a teacher that changes."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.confidence import AffineConfidence
from clsd_tf.confidence_base import register_confidence
from clsd_tf.distributed import all_reduce_sum, update_together
from clsd_tf.group_head import assign_heads


@register_confidence("online_affine")
@keras.saving.register_keras_serializable(package="clsd_tf")
class OnlineAffineConfidence(AffineConfidence):
    """sigmoid(a_g * z + b_g) as in `AffineConfidence`, learned batch by batch.

    The teacher's logits must be of batches that it has not trained on, as those of `EMATeacher`
    are. Each batch adds the second-order expansion of its cross-entropy around the parameters t of
    the moment to decayed sums, whose minimum is taken anew (decayed iteratively reweighted least
    squares; this project's reading):

        H <- decay * H + h,   r <- decay * r + h t - g       h, g: Hessian and gradient of the batch
        t  = argmin  t'Ht / 2 - r't + (t - t0)' P (t - t0) / 2  =  (H + P)^-1 (r + P t0)

    For the pooled parameters P is one impression's worth toward a = 1, b = 0. For those of a group
    it is `prior_strength` times the pooled H per row, toward the pooled ones: a group with so many
    rows in memory goes about half of the way.

    Args:
      num_groups: number of user groups.
      prior_strength: in impressions, > 0. Defaults to 1000.
      decay: memory of the sums per batch, in (0, 1). Defaults to 0.99, about 100 batches.
    """

    def __init__(
        self, num_groups: int, prior_strength: float = 1000.0, decay: float = 0.99, **kwargs
    ):
        super().__init__(num_groups, prior_strength, **kwargs)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"`decay` must be in (0, 1). Received: decay={decay}.")
        self.decay = decay
        # Row 0 is pooled, the groups follow.
        rows = 1 + num_groups
        self._hessian = self._add_sum("hessian", (rows, 2, 2))
        self._linear = self._add_sum("linear", (rows, 2))
        self._count = self._add_sum("count", ())

    @property
    def needs_held_out(self) -> bool:
        """See the base class."""
        return False

    def update(self, teacher_logits: tf.Tensor, labels: tf.Tensor, group: tf.Tensor) -> None:
        """See the base class."""
        z, y = tf.cast(teacher_logits, tf.float32), tf.cast(labels, tf.float32)
        inputs = tf.stack([z, tf.ones_like(z)], axis=1)
        everyone = tf.zeros_like(group)
        sums = [
            _expansion(inputs, y, g, parameters)
            for g, parameters in zip((everyone, group), self._parameters(), strict=True)
        ]
        batch = [all_reduce_sum(tf.concat(parts, axis=0)) for parts in zip(*sums, strict=True)]
        rows = all_reduce_sum(tf.cast(tf.size(z), tf.float32))
        update_together(self._add_batch, self._state(), *batch, rows)

    def _add_batch(
        self, state: Sequence[tf.Variable], hessian: tf.Tensor, linear: tf.Tensor, rows: tf.Tensor
    ) -> None:
        """Takes the step of a batch on one replica's copies of the state."""
        hessians, linears, count, *heads = state
        hessians.assign(self.decay * hessians + hessian)
        linears.assign(self.decay * linears + linear)
        count.assign(self.decay * count + rows)
        start = tf.constant([[1.0, 0.0]])
        pooled = _minimum(hessians[:1], linears[:1], tf.eye(2), start)
        penalty = self.prior_strength * hessians[0] / count
        local = _minimum(hessians[1:], linears[1:], penalty, pooled)
        # A single group is the pool; the prior would only add roundings.
        local = pooled if self.num_groups == 1 else local
        assign_heads(heads, pooled, local)

    def _state(self) -> list[tf.Variable]:
        heads = (self.pooled_head, self.local_head)
        of_heads = [variable for head in heads for variable in (head.raw_scale, head.bias)]
        return [self._hessian, self._linear, self._count, *of_heads]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "decay": self.decay}

    def _parameters(self) -> tuple[tf.Tensor, tf.Tensor]:
        heads = (self.pooled_head, self.local_head)
        pooled, local = (tf.stack([h.scale, tf.convert_to_tensor(h.bias)], axis=1) for h in heads)
        return pooled, local

    def _add_sum(self, name: str, shape: tuple[int, ...]) -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)


def _expansion(
    inputs: tf.Tensor, labels: tf.Tensor, group: tf.Tensor, parameters: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Hessian h and linear term h t - g of the cross-entropy of each group's rows.

    Args:
      inputs: [batch, 2], logits and ones.
      labels: [batch].
      group: int [batch], in [0, groups).
      parameters: t, [groups, 2].

    Returns:
      [groups, 2, 2] and [groups, 2].
    """
    of_row = tf.gather(parameters, group)
    predicted = tf.sigmoid(tf.reduce_sum(inputs * of_row, axis=1))
    curvature = predicted * (1.0 - predicted)
    outer = inputs[:, :, tf.newaxis] * inputs[:, tf.newaxis, :]
    # h t - g of a row: x (x't) p(1-p) - x (p - y).
    step = curvature * tf.reduce_sum(inputs * of_row, axis=1) - (predicted - labels)
    groups = parameters.shape[0]
    hessian = tf.math.unsorted_segment_sum(curvature[:, None, None] * outer, group, groups)
    return hessian, tf.math.unsorted_segment_sum(step[:, None] * inputs, group, groups)


def _minimum(
    hessian: tf.Tensor, linear: tf.Tensor, penalty: tf.Tensor, center: tf.Tensor
) -> tf.Tensor:
    """(H + P)^-1 (r + P t0): [groups, 2, 2], [groups, 2], [2, 2] and [1, 2] to [groups, 2]."""
    right = linear + tf.linalg.matvec(penalty, center)
    return tf.linalg.solve(hessian + penalty, right[:, :, tf.newaxis])[:, :, 0]
