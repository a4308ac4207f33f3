"""One architecture a file, all with one contract (`clsd_tf.backbones.base.Backbone`).

A new backbone is a new file here, called as the backbone is, with a class under
`@register_backbone`. One that lives elsewhere is reached as "package.module:Class".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from clsd_tf.precision import computing_in

if TYPE_CHECKING:
    import tf_keras as keras

    from clsd_tf.features import ModelFeature

_Factory = TypeVar("_Factory", bound="Callable[..., keras.layers.Layer]")

_REGISTRY: dict[str, Callable[..., keras.layers.Layer]] = {}


def backbone_names() -> list[str]:
    """Names for `get_backbone`, found without importing TensorFlow."""
    files = {module.name for module in pkgutil.iter_modules(__path__)} - {"base"}
    return sorted(files | _REGISTRY.keys())


def register_backbone(name: str) -> Callable[[_Factory], _Factory]:
    """Makes a class, or a function of the features that returns a layer, available as `name`."""

    def register(factory: _Factory) -> _Factory:
        known = _REGISTRY.get(name)
        if known is not None and (known.__module__, known.__name__) != (
            factory.__module__,
            factory.__name__,
        ):
            raise ValueError(
                f"There is a backbone {name!r} already: {known}. Received: {factory}. "
                "Register it under another name."
            )
        _REGISTRY[name] = factory
        return factory

    return register


def check_backbone(name: str) -> None:
    """Raises ValueError unless `name` is a known backbone, or has the form of one's own."""
    if ":" not in name and name not in backbone_names():
        raise ValueError(
            f"Unknown backbone. Received: {name!r}. Expected one of: "
            f"{', '.join(backbone_names())}; or 'package.module:Class' for one of your own."
        )


def get_backbone(
    name: str, features: Sequence[ModelFeature], *, dtype: str | None = None, **kwargs: object
) -> keras.layers.Layer:
    """Builds a backbone.

    Args:
      name: one of `backbone_names()`, or "package.module:Class" for one of your own.
      features: the model's features, from `Encoder.model_features`.
      dtype: what all of its layers compute in, "float32" or "mixed_bfloat16", with weights and
        logits in float32; None for the global policy of Keras.
      **kwargs: options of the backbone, such as `units`.

    Returns:
      A `tf_keras` layer that maps a dict of features to logits [batch].

    Raises:
      ValueError: there is no such backbone or dtype, or the backbone is no class of layers.
    """
    build = _factory(name)  # imported outside: what a module of one's own sets is to stay
    with computing_in(dtype):
        return build(features, **kwargs)


def _factory(name: str) -> Callable[..., keras.layers.Layer]:
    if ":" in name:
        return _class_elsewhere(name)
    check_backbone(name)
    if name not in _REGISTRY:
        importlib.import_module(f"{__name__}.{name}")
    return _REGISTRY[name]


def _class_elsewhere(name: str) -> Callable[..., keras.layers.Layer]:
    """The class of "package.module:Class". Nothing but a class of layers is called."""
    import tf_keras as keras

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"Cannot import the backbone. Received: {name!r}: {error}. Expected: "
            "package.module:Class, importable where the command runs."
        ) from error
    if not (isinstance(found, type) and issubclass(found, keras.layers.Layer)):
        raise ValueError(
            f"A backbone is a class of layers. Received: {name!r}, which is {found!r}. Expected: "
            "package.module:Class, a subclass of `tf_keras.layers.Layer`."
        )
    return found
