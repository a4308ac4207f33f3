"""Variants of an arm, named where arms are: `clsd:confidence=mixture:generations=2`.

A comparison takes them beside the arms themselves, so that each choice that makes an arm can be
measured with one command. No TensorFlow is imported here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from experiments.arms import CONFIDENCES, Arm, get_arm
from experiments.runs import TrainConfig

Value = str | float

# Of the runs of a comparison one differs from the other in the arm alone; these are for all.
_OF_THE_COMPARISON = {"seed", "epochs", "batch_size", "backbone", "method", "data", "data_dir"}
_TYPES = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
_OF_THE_RUN = {
    field.name: field.type
    for field in dataclasses.fields(TrainConfig)
    if field.type in _TYPES and field.name not in _OF_THE_COMPARISON
}
_OF_THE_TEACHER = {"teacher", "num_folds", "generations", "teacher_fraction"}
_CONFIDENCE = "confidence_options."


@dataclasses.dataclass(frozen=True)
class Variant:
    """An arm and what is different about it.

    Attributes:
      arm: its name in `experiments.arms.ARMS`.
      options: of the run, of the arm, of its method, or, behind `confidence_options.`, of its
        confidence function.
    """

    arm: str
    options: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    @property
    def entry(self) -> Arm:
        """The arm."""
        return get_arm(self.arm)

    def apply(self, config: TrainConfig) -> TrainConfig:
        """`config` of the arm as it is, with the options of the variant."""
        return with_options(config, self.options)


def parse_variant(text: str) -> Variant:
    """Reads the name of an arm, and `:option=value` as often as needed.

    Args:
      text: such as `clsd` or `clsd:student=weight:confidence_options.relative=false`. Values are
        JSON; what is not is text.

    Raises:
      ValueError: there is no such arm, or it has no such option.
    """
    name, *pairs = text.split(":")
    arm = get_arm(name)
    known = {*_OF_THE_RUN, *arm.options, *arm.method_options}
    if not arm.needs_teacher:
        known -= _OF_THE_TEACHER
    options: dict[str, Value] = {}
    for pair in pairs:
        option, separator, value = pair.partition("=")
        of_confidence = option.startswith(_CONFIDENCE) and "confidence" in arm.options
        if not separator or option in options or not (option in known or of_confidence):
            also = f", {_CONFIDENCE}NAME" if "confidence" in arm.options else ""
            raise ValueError(
                f"A variant of an arm sets options of it, each once. Received: {pair!r} in "
                f"{text!r}. Expected: OPTION=VALUE, with one of: {', '.join(sorted(known))}{also}."
            )
        options[option] = _value(value)
        kind = _OF_THE_RUN.get(option)
        # Python takes a truth for an integer.
        if kind and type(options[option]) not in _TYPES[kind]:
            raise ValueError(
                f"Option '{option}' of a variant is of another type. Received: {pair!r} in "
                f"{text!r}. Expected: a value of type {kind}."
            )
    if (confidence := options.get("confidence", CONFIDENCES[0])) not in CONFIDENCES:
        raise ValueError(
            f"There is no such confidence function. Received: {confidence!r} in {text!r}. Expected "
            f"one of: {', '.join(CONFIDENCES)}."
        )
    return Variant(name, options)


def with_options(config: TrainConfig, options: Mapping[str, Value]) -> TrainConfig:
    """`config` with options of the run, its arm, its method and its confidence replaced."""
    of_method = get_arm(config.method).method_options
    run: dict[str, Value] = {}
    parts: dict[str, dict] = {
        name: dict(getattr(config, name))
        for name in ("options", "method_options", "confidence_options")
    }
    for name, value in options.items():
        if name.startswith(_CONFIDENCE):
            parts["confidence_options"][name.removeprefix(_CONFIDENCE)] = value
        elif name in of_method:
            parts["method_options"][name] = value
        elif name in config.options:
            parts["options"][name] = value
        else:
            run[name] = value
    return _replaced(config, {**run, **parts})


def _replaced(config: TrainConfig, fields: dict) -> TrainConfig:
    """The types of the values were checked where the variant was read."""
    return dataclasses.replace(config, **fields)


def _value(text: str) -> Value:
    for read in (json.loads, float):  # JSON has no .5
        try:
            return read(text)
        except ValueError:
            continue
    return text
