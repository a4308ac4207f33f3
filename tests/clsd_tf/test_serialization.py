"""Each registered layer, metric and optimizer comes back from its config, options and all."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.features import ModelFeature

for module in pkgutil.walk_packages(clsd_tf.__path__, "clsd_tf."):
    importlib.import_module(module.name)

REGISTERED = {
    name: registered
    for name, registered in keras.saving.get_custom_objects().items()
    if name.startswith("clsd_tf>") and registered.__module__.startswith("clsd_tf.")
}
FEATURES = [
    ModelFeature("item", "categorical", cardinality=9, dim=4, table="item", role="item"),
    ModelFeature("history", "categorical", cardinality=9, dim=4, length=3, table="item"),
    ModelFeature("age", "numeric"),
]
# What arguments without a default are given.
REQUIRED = {
    "features": FEATURES,
    "num_groups": 3,
    "length": 5,
    "units": (4,),
    "backbone": clsd_tf.get_backbone("mlp", FEATURES, units=[4]),
}


def unusual(default: object) -> object:
    """A value of the same kind as a default, but another one where that is possible."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default * 2
    if isinstance(default, float):
        return default / 2
    if isinstance(default, tuple):
        return tuple(unusual(value) for value in default)
    return default


def arguments_of(registered: type) -> dict[str, object]:
    """An argument for every parameter that the class itself names."""
    parameters = inspect.signature(registered).parameters.values()
    return {
        p.name: REQUIRED[p.name] if p.default is p.empty else unusual(p.default)
        for p in parameters
        if p.kind is not p.VAR_KEYWORD and not (p.default is None and p.name in ("name", "dtype"))
    }


def test_there_are_some():
    assert {"clsd_tf>GlobalConfidence", "clsd_tf>GroupAUC", "clsd_tf>RowwiseAdagrad"} <= set(
        REGISTERED
    )


@pytest.mark.parametrize("registered", REGISTERED.values(), ids=REGISTERED)
def test_comes_back_from_its_config(registered):
    arguments = arguments_of(registered)
    one = registered(**arguments)
    config = one.get_config()
    for name in arguments.keys() - REQUIRED.keys():
        if isinstance(arguments[name], (int, float, tuple)):
            assert config[name] == pytest.approx(arguments[name]), name
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert type(other) is registered
    assert other.get_config() == config


@pytest.mark.parametrize("name", ["bst", "din"])
def test_a_saved_model_of_a_backbone_holds_all_of_its_weights(tmp_path, name):
    backbone = clsd_tf.get_backbone(name, FEATURES)
    random = np.random.default_rng(3)
    rows = {
        "item": tf.constant(random.integers(1, 9, 20)),
        "history": tf.constant(random.integers(0, 9, (20, 3))),
        "age": tf.constant(random.normal(size=20).astype("float32")),
    }
    backbone(rows)
    backbone.set_weights([random.normal(0, 0.5, w.shape) for w in backbone.get_weights()])
    expected = backbone(rows).numpy()
    backbone.save(tmp_path / "saved")
    loaded = keras.models.load_model(tmp_path / "saved")
    np.testing.assert_allclose(loaded(rows), expected, rtol=1e-5, atol=1e-6)
