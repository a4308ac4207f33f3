"""Training by DeepCTR, as its documentation does it or with the sizes of the others."""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # what DeepCTR is written for

import tensorflow as tf
from arrays import BATCHES
from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr.models import DCN, DIN, PNN, DeepFM
from training_data import FitWorker
from worker_protocol import serve


class DeepCTRTraining(FitWorker):
    """Options: "backbone", "sizes" (None: defaults), "optimizer"."""

    def build(self, options: dict, columns: list[dict]) -> tuple[tf.keras.Model, dict]:
        """See the base class."""
        tf.keras.mixed_precision.set_global_policy(options.get("precision", "float32"))
        sizes = options["sizes"]
        dim = {"embedding_dim": 4 if sizes is None else sizes["dim"]}  # 4 is its default
        self._renamed = {}
        feats = []
        for column in columns:
            name = column["name"]
            if column["kind"] == "numeric":
                feats.append(DenseFeat(name, 1))
            elif column["length"] is None:
                feats.append(SparseFeat(name, column["cardinality"], **dim))
            else:
                self._renamed[name] = "hist_item_id"
                feats.append(
                    VarLenSparseFeat(
                        SparseFeat(
                            "hist_item_id",
                            column["cardinality"],
                            embedding_name="item_id",
                            **dim,
                        ),
                        maxlen=column["length"],
                    )
                )
        model = _model(options["backbone"], feats, sizes)
        model.compile(options["optimizer"], "binary_crossentropy")
        return model, {"version": "0.9.4"}

    def adapt(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Names the history as DIN wants it."""

        def rename(features: dict, label: tf.Tensor) -> tuple[dict, tf.Tensor]:
            names = {"click_history": "hist_item_id"}
            return {names.get(name, name): v for name, v in features.items()}, label

        return batches.take(BATCHES).map(rename).cache().repeat().prefetch(2)


def _model(backbone: str, feats: list, sizes: dict | None) -> tf.keras.Model:
    if sizes is None:
        # As in its examples: the same columns for the linear part where a model has one.
        return {
            "mlp": lambda: PNN(feats, use_inner=False),
            "deepfm": lambda: DeepFM(feats, feats),
            "dcn_v2": lambda: DCN(feats, feats, cross_parameterization="matrix"),
            "din": lambda: DIN(feats, ["item_id"]),
        }[backbone]()
    plain = {
        "dnn_hidden_units": sizes["units"],
        "l2_reg_embedding": 0,
        "l2_reg_dnn": 0,
    }
    if backbone == "mlp":
        return PNN(feats, use_inner=False, **plain)
    if backbone == "deepfm":
        return DeepFM(feats, feats, l2_reg_linear=0, **plain)
    if backbone == "dcn_v2":
        return DCN(
            [],
            feats,
            cross_num=sizes["num_cross_layers"],
            cross_parameterization="matrix",
            l2_reg_linear=0,
            l2_reg_cross=0,
            **plain,
        )
    return DIN(
        feats,
        ["item_id"],
        att_hidden_size=sizes["attention_units"],
        att_activation="relu",
        **plain,
    )


if __name__ == "__main__":
    serve(DeepCTRTraining())
