"""Keras 2 for everyone: TFRS needs `tf.keras` to be `tf_keras`, and so does this library."""

from __future__ import annotations

import os
from collections.abc import Iterable


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


def check_keras_2(objects: Iterable[object], argument: str) -> None:
    """Raises ValueError where one of the `objects` is of Keras 3, which fails obscurely later.

    Args:
      objects: what a user has passed: optimizers, metrics, callbacks; names are passed over.
      argument: as which they were passed.
    """
    for value in objects:
        if any(kind.__module__.split(".")[0] == "keras" for kind in type(value).__mro__):
            raise ValueError(
                f"`{argument}` must be of Keras 2, as the model is. Received: "
                f"{type(value).__name__} from module {type(value).__module__}, which is Keras 3. "
                "Import it with `import tf_keras as keras`."
            )
