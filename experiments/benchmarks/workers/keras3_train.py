"""Training by Keras 3 and keras-rs on TensorFlow, the backend with sparse gradients."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_rs
from training_data import FitWorker
from worker_protocol import serve


class Keras3Training(FitWorker):
    """Options: "backbone", "sizes", "optimizer"."""

    def build(self, options: dict, columns: list[dict]) -> tuple[keras.Model, dict]:
        """See the base class."""
        keras.config.set_dtype_policy(options.get("precision", "float32"))
        sizes = options["sizes"]
        inputs, vectors = {}, []
        tables = {}
        for column in columns:
            name, length = column["name"], column["length"]
            numeric = column["kind"] == "numeric"
            inputs[name] = keras.Input(
                () if length is None else (length,),
                dtype="float32" if numeric else "int64",
                name=name,
            )
            if numeric:
                vectors.append(keras.layers.Reshape((1,))(inputs[name]))
                continue
            if column["table"] not in tables:
                tables[column["table"]] = keras.layers.Embedding(
                    column["cardinality"], sizes["dim"]
                )
            vector = tables[column["table"]](inputs[name])
            if length is not None:
                vector = _attend(tables["item_id"](inputs["item_id"]), vector, inputs[name], sizes)
            vectors.append(vector)
        flat = keras.layers.Concatenate()(vectors)
        hidden = flat
        for width in sizes["units"]:
            hidden = keras.layers.Dense(width, activation="relu")(hidden)
        if options["backbone"] == "dcn_v2":
            crossed = flat
            for _ in range(sizes["num_cross_layers"]):
                crossed = keras_rs.layers.FeatureCross()(flat, crossed)
            hidden = keras.layers.Concatenate()([crossed, hidden])
        elif options["backbone"] not in ("mlp", "din"):
            raise ValueError(f"Not written here. Received: backbone={options['backbone']}.")
        output = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(hidden)
        model = keras.Model(inputs, output)
        model.compile(options["optimizer"], "binary_crossentropy", jit_compile=False)
        return model, {"version": keras.__version__}


def _attend(item, history, ids, sizes: dict):
    """The attention of DIN."""
    ops = keras.ops
    query = keras.layers.RepeatVector(history.shape[1])(item)
    pairs = ops.concatenate([query, history, query - history, query * history], axis=-1)
    for width in sizes["attention_units"]:
        pairs = keras.layers.Dense(width, activation="relu")(pairs)
    relevance = keras.layers.Dense(1)(pairs)
    relevance *= ops.expand_dims(ops.cast(ids > 0, "float32"), -1)
    return ops.sum(relevance * history, axis=1)


if __name__ == "__main__":
    serve(Keras3Training())
