"""The last layer of a backbone: checked to give a logit, and changed by a calibration."""

from __future__ import annotations

import tf_keras as keras

_SQUASHING = (
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.softmax,
    keras.activations.tanh,
)


def check_maps_to_logit(layer: object, argument: str) -> None:
    """Raises ValueError unless `layer` is a `tf_keras` layer that may give one logit."""
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            f"`{argument}` must be a `tf_keras` layer or model. Received: {type(layer)} from "
            f"module {type(layer).__module__}. Models of Keras 3 do not work: build it with "
            "`import tf_keras as keras`."
        )
    head = _last_layer(layer)
    activation = getattr(head, "activation", None)
    if activation in _SQUASHING:
        raise ValueError(
            f"`{argument}` must end in a logit. Received: a last layer with "
            f"activation={activation.__name__!r}. Leave the activation out; the model applies the "
            "sigmoid."
        )
    if isinstance(head, keras.layers.Dense) and head.units != 1:
        raise ValueError(
            f"`{argument}` must give one logit for each example. Received: a last layer with "
            f"units={head.units}. Expected: units=1."
        )


def fold_affine(layer: keras.layers.Layer, scale: float, bias: float) -> None:
    """Changes the logit z of a built `layer` to scale * z + bias, in the weights of its last Dense.

    Args:
      layer: a backbone, a sequential or functional model, or a layer whose attribute `head` is its
        last Dense.
      scale: > 0, so that the order of the logits stays.
      bias: in units of the logit.

    Raises:
      ValueError: the last layer is no Dense with a bias.
    """
    head = _last_layer(layer)
    if not isinstance(head, keras.layers.Dense) or not head.use_bias:
        raise ValueError(
            "A calibration is folded into a last Dense with a bias. Received: "
            f"{head if head is None else head.name!r} as the last layer of {layer.name!r}. Give "
            "the layer an attribute `head` that is its last Dense."
        )
    head.kernel.assign(scale * head.kernel)
    head.bias.assign(scale * head.bias + bias)


def _last_layer(layer: object) -> keras.layers.Layer | None:
    """The layer that computes the output, or None if that cannot be told."""
    if isinstance(layer, keras.layers.Dense):
        return layer
    head = getattr(layer, "head", None)
    if isinstance(head, keras.layers.Layer):
        return _last_layer(head)
    if isinstance(layer, keras.Sequential):
        return _last_layer(layer.layers[-1]) if layer.layers else None
    outputs = getattr(layer, "outputs", None)  # of a functional model
    if outputs and len(outputs) == 1 and hasattr(outputs[0], "node"):
        return _last_layer(outputs[0].node.layer)
    return layer if isinstance(layer, keras.layers.Activation) else None
