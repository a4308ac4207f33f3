"""Multi-gate mixture of experts: the click learns next to other feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import register_backbone
from clsd_tf.backbones.base import Backbone, dense_stack
from clsd_tf.candidates import through
from clsd_tf.features import ModelFeature
from clsd_tf.losses import click_loss


@register_backbone("mmoe")
@keras.saving.register_keras_serializable(package="clsd_tf")
class MMoE(Backbone):
    """Experts that tasks share, and a gate and a tower for each task.

        e_k = dense layers over all features,   k = 1 .. num_experts
        h_t = tower_t(sum_k softmax(gate_t(x))_k e_k)
        logit_t = head_t(h_t),   t the click and every further label

    Source: MMoE, Ma et al., KDD 2018, equations 5 to 7 (doi 10.1145/3219819.3220007). One expert is
    a shared bottom. The output is the click's logit; what else is learned shapes the experts and is
    given by `task_logits`.

    While training, the mean cross-entropy of each further label times `task_weight` is added to the
    loss of the click, whatever that is. Only the click has a confidence, and sample weights are
    for it alone.

    Args:
      features: see `Backbone`.
      tasks: names of further labels, columns of zeros and ones in the training batches; see
        `ClickLogSpec.further_labels`. Defaults to none: a mixture of experts for the click alone.
      num_experts: 1 for a shared bottom. Defaults to 4.
      units: widths of an expert. Defaults to (128,).
      tower_units: widths of each task's tower. Defaults to (64,).
      task_weight: of the loss of each further label beside that of the click. Defaults to 0.2.
    """

    shares_candidates = True

    def __init__(
        self,
        features: Sequence[ModelFeature],
        tasks: Sequence[str] = (),
        num_experts: int = 4,
        units: Sequence[int] = (128,),
        tower_units: Sequence[int] = (64,),
        task_weight: float = 0.2,
        name: str = "mmoe",
        **kwargs,
    ):
        """See the class."""
        super().__init__(features, name=name, **kwargs)
        if num_experts < 1 or task_weight < 0.0:
            raise ValueError(
                "`num_experts` must be >= 1 and `task_weight` >= 0. Received: "
                f"num_experts={num_experts}, task_weight={task_weight}."
            )
        if inputs := set(tasks) & {feature.name for feature in self.features}:
            raise ValueError(
                "A label cannot be an input too. Received: "
                f"{', '.join(sorted(inputs))} in `tasks` and among the features. Expected: "
                "labels that are no features; leave the columns out of one of the two."
            )
        self.label_columns = tuple(tasks)
        self.units = tuple(units)
        self.tower_units = tuple(tower_units)
        self.task_weight = task_weight
        self.experts = [dense_stack(self.units, name=f"expert_{k}") for k in range(num_experts)]
        # The click is first.
        self.gates = [
            keras.layers.Dense(num_experts, name=f"gate_{t}") for t in range(1 + len(tasks))
        ]
        self.towers = [
            dense_stack(self.tower_units, name=f"tower_{t}") for t in range(1 + len(tasks))
        ]
        self.task_heads = [
            keras.layers.Dense(1, dtype="float32", name=f"head_{task}") for task in tasks
        ]

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """See the class. Raises ValueError where a label is missing in training."""
        click, *others = self._hidden(*self.embed(inputs))
        further = [head(hidden) for head, hidden in zip(self.task_heads, others, strict=True)]
        if training:
            self._add_losses(inputs, further)
        return tf.squeeze(self.head(click), axis=-1)

    def task_logits(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Logits of the further labels by name, float32 [batch] each."""
        hidden = self._hidden(*self.embed(inputs))[1:]
        logits = [
            head(of_task)[:, 0] for head, of_task in zip(self.task_heads, hidden, strict=True)
        ]
        return dict(zip(self.label_columns, logits, strict=True))

    def represent(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """See the base class: what the click's tower gives."""
        return self._hidden(inputs, embedded)[0]

    def _hidden(
        self, inputs: Mapping[str, tf.Tensor], embedded: Mapping[str, tf.Tensor]
    ) -> list[tf.Tensor]:
        """What each tower gives, the click's first."""
        columns = self.columns(inputs, self.pool(inputs, embedded))
        flat = columns.flat()
        experts = tf.stack([through(expert, columns) for expert in self.experts], axis=1)
        return [
            tower(tf.einsum("bk,bkd->bd", tf.nn.softmax(gate(flat)), experts))
            for gate, tower in zip(self.gates, self.towers, strict=True)
        ]

    def _add_losses(self, inputs: Mapping[str, tf.Tensor], logits: Sequence[tf.Tensor]) -> None:
        missing = [name for name in self.label_columns if name not in inputs]
        if missing:
            raise ValueError(
                f"The backbone `{self.name}` learns labels that the batches lack. Received: "
                f"{', '.join(inputs)}. Expected also: {', '.join(missing)}. Name them in "
                "`extra_columns` of `make_dataset`."
            )
        for name, of_task in zip(self.label_columns, logits, strict=True):
            labels = tf.reshape(tf.cast(inputs[name], tf.float32), [-1])
            losses = click_loss(of_task[:, 0], labels)
            rows = tf.cast(tf.size(losses), tf.float32)  # may be 0
            mean = tf.math.divide_no_nan(tf.reduce_sum(losses), rows)
            self.add_loss(self.task_weight * mean)

    def get_config(self) -> dict[str, object]:
        """See `keras.Model`."""
        return {
            **super().get_config(),
            "tasks": self.label_columns,
            "num_experts": len(self.experts),
            "units": self.units,
            "tower_units": self.tower_units,
            "task_weight": self.task_weight,
        }
