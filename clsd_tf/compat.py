"""Keras 2 for everyone: TFRS needs `tf.keras` to be `tf_keras`, and so does this library."""

from __future__ import annotations

import os


def use_keras_2() -> None:
    """Makes `tf.keras` resolve to `tf_keras`; call it before TensorFlow Recommenders is imported.

    Raises:
      ImportError: `tf.keras` was bound to Keras 3 before.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    import tensorflow as tf
    import tf_keras

    if tf.keras.Model is not tf_keras.Model:
        raise ImportError(
            "`tf.keras` is Keras 3 in this process, and clsd_tf and tensorflow_recommenders need "
            "Keras 2 (package `tf_keras`). Received: TF_USE_LEGACY_KERAS="
            f"{os.environ['TF_USE_LEGACY_KERAS']!r}. Set TF_USE_LEGACY_KERAS=1, or import clsd_tf, "
            "before anything touches `tf.keras` or `tensorflow.keras`."
        )
