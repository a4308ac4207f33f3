"""The last layer of a backbone: checked to give a logit, and changed by a calibration."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

# Operations that change nothing but shape and type.
_SHAPING = ("Identity", "Reshape", "Squeeze", "ExpandDims", "Cast", "StridedSlice")
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


def check_is_logit(outputs: tf.Tensor, layer: keras.layers.Layer) -> None:
    """Raises ValueError unless the `outputs` of `layer` may be logits, [batch] or [batch, 1].

    While a graph is built, the operation behind them is looked at too: a sigmoid in the `call` of a
    model of one's own would otherwise be applied twice, and the loss would be quietly wrong.
    """
    if not tf.is_tensor(outputs):
        raise ValueError(
            f"The backbone `{layer.name}` must give one tensor of logits. Received: "
            f"{type(outputs).__name__}. Expected: float [batch] or [batch, 1]. Wrap it in a model "
            "that returns the click's logit alone."
        )
    if outputs.shape.rank not in (None, 1) and outputs.shape[1:].as_list() not in ([1], [None]):
        raise ValueError(
            f"The backbone `{layer.name}` must give one logit for each example. Received: shape "
            f"{tuple(outputs.shape)}. Expected: [batch] or [batch, 1]. End it in a Dense(1) "
            "without activation."
        )
    activation = None if tf.executing_eagerly() else _squashed_by(outputs)
    if activation is not None:
        raise ValueError(
            f"The backbone `{layer.name}` must give logits. Received: the output of a "
            f"{activation}. Leave it out; the model applies the sigmoid."
        )


def _squashed_by(outputs: tf.Tensor) -> str | None:
    """Name of the operation that makes `outputs`, a tensor of a graph, if they are no logits."""
    operation = outputs.op
    while operation.type in _SHAPING and operation.inputs:
        operation = operation.inputs[0].op
    return operation.type if operation.type in ("Sigmoid", "Softmax", "Tanh") else None


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
