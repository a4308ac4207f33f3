"""Training by TensorFlow Recommenders' experimental Ranking model, with crosses.

Its crosses are of low rank; a rank of half the width gives them the weights of full ones.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras
from arrays import BATCHES
from training_data import FitWorker
from worker_protocol import serve


class RankingTraining(FitWorker):
    """Options: "backbone" (dcn_v2), "sizes", "optimizer"."""

    def build(self, options: dict, columns: list[dict]) -> tuple[keras.Model, dict]:
        """See the base class."""
        if options["backbone"] != "dcn_v2":
            raise ValueError(f"Ranking has crosses. Received: backbone={options['backbone']}.")
        sizes = options["sizes"]
        numeric = [c["name"] for c in columns if c["kind"] == "numeric"]
        ids = [c for c in columns if c["kind"] == "categorical"]
        width = sizes["dim"] * (len(ids) + 1)
        crosses = tfrs.layers.feature_interaction.MultiLayerDCN(
            projection_dim=width // 2, num_layers=sizes["num_cross_layers"]
        )
        model = tfrs.experimental.models.Ranking(
            embedding_layer=_Tables(ids, sizes["dim"]),
            bottom_stack=tfrs.layers.blocks.MLP([sizes["dim"]], final_activation="relu"),
            feature_interaction=keras.Sequential([keras.layers.Concatenate(), crosses]),
            top_stack=tfrs.layers.blocks.MLP([*sizes["units"], 1], final_activation="sigmoid"),
        )
        model.compile(options["optimizer"])
        self._names = numeric, [c["name"] for c in ids]
        return model, {"version": tfrs.__version__}

    def adapt(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Sorts features as Ranking wants them."""

        def sort(features: dict, label: tf.Tensor) -> tuple[dict, tf.Tensor]:
            # Ranking squeezes its embeddings, by which an unknown size of the batch is lost.
            features = {n: tf.ensure_shape(v, [self._batch_size]) for n, v in features.items()}
            dense = [v for v in features.values() if v.dtype.is_floating]
            sparse = {name: v for name, v in features.items() if not v.dtype.is_floating}
            return {"dense_features": tf.stack(dense, 1), "sparse_features": sparse}, label

        return batches.take(BATCHES).map(sort).cache().repeat().prefetch(2)


class _Tables(keras.layers.Layer):
    """One table a feature, as the examples of the library have them."""

    def __init__(self, columns: list[dict], dim: int):
        super().__init__()
        self._tables = {c["name"]: keras.layers.Embedding(c["cardinality"], dim) for c in columns}

    def call(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: table(inputs[name]) for name, table in self._tables.items()}


if __name__ == "__main__":
    serve(RankingTraining())
