"""A calibration folded into the last layer, for each way of building a Keras model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone
from clsd_tf.folding import check_maps_to_logit, fold_affine


def sequential() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])


def nested() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(4), sequential()])


def functional() -> keras.Model:
    inputs = keras.Input((3,))
    # The layer that was made last is not the last layer.
    head = keras.layers.Dense(1)
    return keras.Model(inputs, head(keras.layers.Dense(4)(inputs)))


def single() -> keras.layers.Layer:
    return keras.layers.Dense(1)


class WithHead(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(1)
        self.later = keras.layers.Dense(3)

    def call(self, x):
        return self.head(self.later(x))


@pytest.mark.parametrize("build", [sequential, nested, functional, single, WithHead])
def test_scales_and_shifts_the_logit(build):
    layer, x = build(), tf.random.normal((5, 3))
    before = layer(x)
    fold_affine(layer, 0.5, -1.25)
    np.testing.assert_allclose(layer(x), 0.5 * before - 1.25, rtol=1e-5, atol=1e-6)


def test_backbones_of_this_package(clicks):
    backbone = get_backbone("dcn_v2", clicks.inputs)
    before = backbone(clicks.features)
    fold_affine(backbone, 2.0, 0.5)
    np.testing.assert_allclose(backbone(clicks.features), 2 * before + 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(1, use_bias=False),
        keras.Sequential([keras.layers.Dense(1), keras.layers.Flatten()]),
        keras.Sequential(),
    ],
)
def test_a_last_layer_that_cannot_take_it_is_refused(layer):
    with pytest.raises(ValueError, match="folded into a last Dense with a bias"):
        fold_affine(layer, 2.0, 0.0)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(1, activation="sigmoid"),
        keras.Sequential([keras.layers.Dense(1), keras.layers.Activation("sigmoid")]),
        keras.Sequential([keras.layers.Dense(1, activation="tanh")]),
    ],
)
def test_probabilities_are_no_logits(layer):
    with pytest.raises(ValueError, match="`backbone` must end in a logit.*activation="):
        check_maps_to_logit(layer, "backbone")


def test_one_logit_each():
    with pytest.raises(ValueError, match="one logit for each example.*units=2"):
        check_maps_to_logit(keras.layers.Dense(2), "teacher")


def test_other_things_are_no_layers():
    with pytest.raises(ValueError, match="must be a `tf_keras` layer.*Models of Keras 3"):
        check_maps_to_logit(lambda x: x, "backbone")


@pytest.mark.parametrize("build", [sequential, nested, functional, single, WithHead])
def test_logits_pass(build):
    check_maps_to_logit(build(), "backbone")
