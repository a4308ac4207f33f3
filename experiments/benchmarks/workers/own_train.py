"""Training by `ClickConfidenceModel`: plain, or taught in one of the ways that it offers."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras
from arrays import BATCHES
from training_data import FitWorker
from worker_protocol import serve

import clsd_tf
from clsd_tf.optimizers import SparseAdagrad
from clsd_tf.progressive import ScoredClicks

_LIKE = {
    "mlp": ["units"],
    "deepfm": ["units"],
    "dcn_v2": ["units", "num_cross_layers"],
    "din": ["units", "attention_units"],
}


class OwnTraining(FitWorker):
    """Options: "backbone", "sizes" (None: defaults), "optimizer", "teacher" (None: plain).

    "precision" is that of `clsd_tf.get_backbone`, for all contenders in the way of each.
    """

    def build(self, options: dict, columns: list[dict]) -> tuple[keras.Model, dict]:
        """See the base class."""
        features = [
            clsd_tf.ModelFeature(
                column["name"],
                column["kind"],
                cardinality=column["cardinality"],
                length=column["length"],
                table=column["table"],
                role=column["role"],
            )
            for column in columns
        ]
        sizes = options["sizes"] or {}
        sizes = {name: sizes[name] for name in _LIKE[options["backbone"]] if name in sizes}

        def backbone() -> keras.Model:
            dtype = options.get("precision")
            return clsd_tf.get_backbone(options["backbone"], features, dtype=dtype, **sizes)

        teacher = options.get("teacher")
        if teacher is None:
            model = clsd_tf.ClickConfidenceModel(backbone())
        else:
            layer = {
                "scores": clsd_tf.StoredScores,
                "frozen": backbone,
                "ema": lambda: clsd_tf.EMATeacher(backbone()),
            }[teacher]()
            model = clsd_tf.ClickConfidenceModel(
                backbone(), layer, options["confidence"], num_groups=4, student=options["student"]
            )
        model.compile(_optimizer(options["optimizer"]))
        if model.confidence is not None and model.confidence.needs_held_out:
            model.fit_confidence(_clicks())
        return model, {}

    def adapt(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Adds what a taught student reads."""

        def add(features: dict, label: tf.Tensor) -> tuple[dict, tf.Tensor]:
            logit = features["x0"] - 1.0
            group = features["user_id"] % 4
            return {**features, "_group": group, "_teacher_logit": logit}, label

        # Kept after the change, which is not a part of training.
        return batches.take(BATCHES).map(add).cache().repeat().prefetch(2)


def _optimizer(name: str) -> keras.optimizers.Optimizer | None:
    if name == "default":
        return None
    return {"adagrad": SparseAdagrad, "adam": keras.optimizers.Adam}[name]()


def _clicks() -> ScoredClicks:
    """Rows by which a confidence function is fitted; what they say does not matter for cost."""
    random = tf.random.Generator.from_seed(1)
    logits = random.normal([4000]).numpy()
    labels = (random.uniform([4000]) < tf.sigmoid(logits - 0.5)).numpy().astype("float32")
    return ScoredClicks(logits, labels, (tf.range(4000) % 4).numpy(), num_groups=4)


if __name__ == "__main__":
    serve(OwnTraining())
