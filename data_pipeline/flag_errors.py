"""What is wrong with the flags of a command line, in a sentence that says how to mend it."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence

from absl import flags

_ONE = re.compile(r"flag --(?P<name>\w+)=(?P<value>.*?): (?P<reason>.*)", re.DOTALL)
_SEVERAL = re.compile(r"flags (?P<values>\w+=.*?): (?P<reason>.*)", re.DOTALL)
_NEEDED = "must have a value other than None."
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "comma separated list of strings": "values with commas between them",
}


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses a command line, its program's name first; returns what is no flag.

    Raises:
      flags.Error: a flag is unknown, lacks a value, or has one that it does not take. The message
        says what was received and what is expected.
    """
    try:
        rest = values(arguments)
        _check_finite(values)
    except (flags.Error, ValueError) as error:
        raise flags.Error(_sentence(values, error)) from error
    return rest


def _check_finite(values: flags.FlagValues) -> None:
    """Raises flags.Error for NaN and infinity, which pass every bound of absl."""
    for name in values:
        if values[name].flag_type() == "float" and not math.isfinite(values[name].value or 0.0):
            raise flags.IllegalFlagValueError(f"flag --{name}={values[name].value}: not finite")


def _sentence(values: flags.FlagValues, error: Exception) -> str:
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(values, error.flagname, error.flagvalue)
    if missing := re.match(r"Missing value for flag --?(\w+)", text):
        (name,) = missing.groups()
        return f"--{name} has no value. Received: --{name}. Expected: {_expected(values, name)}."
    if surplus := re.match(r"--no(\w+)=(.*) does not take", text):
        name, value = surplus.groups()
        return (
            f"--no{name} takes no value. Received: --no{name}={value}. Expected: --{name} or "
            f"--no{name}."
        )
    if found := _ONE.fullmatch(text):
        return _wrong_value(values, found["name"], found["value"], found["reason"])
    if found := _SEVERAL.fullmatch(text):
        received = ", ".join(f"--{pair}" for pair in found["values"].split(", "))
        return f"Flags do not go together. Received: {received}. Expected: {found['reason']}"
    if isinstance(error, flags.CantOpenFlagFileError):
        return (
            "A file of flags cannot be read. Received: --flagfile: "
            f"{text.rpartition('flagfile: ')[2]}. Expected: a file with a flag on each line, as "
            "--name=value."
        )
    return text


def _unknown(values: flags.FlagValues, name: str, value: object) -> str:
    given = str(value or "")  # as it was written: with the dashes, the name and perhaps a value
    received = given if given.startswith("-") else f"--{name}"
    near = difflib.get_close_matches(name, list(values), n=1, cutoff=0.6)
    expected = f"--{near[0]}. Did you mean that?" if near else "a flag that --help lists."
    return f"There is no flag --{name}. Received: {received}. Expected: {expected}"


def _wrong_value(values: flags.FlagValues, name: str, value: str, reason: str) -> str:
    if reason.endswith(_NEEDED):
        return _missing(values)
    if "Received: " in reason and "Expected" in reason:  # a validator's own sentence
        return f"--{name}: {reason}"
    if reason.startswith("must be"):  # a validator's message says what is expected
        shown = ",".join(values[name].value) if values[name].value is not None else value
        expected = reason.removeprefix("must be ").rstrip(".")
        return f"--{name} {reason.rstrip('.')}. Received: --{name}={shown}. Expected: {expected}."
    return (
        f"--{name} does not take this value. Received: --{name}={value}. Expected: "
        f"{_expected(values, name)}."
    )


def _missing(values: flags.FlagValues) -> str:
    """All flags that are needed and were not given."""
    names = [
        name
        for name in values
        if values[name].value is None
        and any(str(v.message).endswith(_NEEDED) for v in values[name].validators)
    ]
    noun = "A flag is" if len(names) == 1 else "Flags are"
    received = " and no ".join(f"--{name}" for name in names)
    expected = "; ".join(f"--{name}=... {_help(values, name)}" for name in names)
    return f"{noun} missing. Received: no {received}. Expected: {expected}."


def _expected(values: flags.FlagValues, name: str) -> str:
    flag = values[name]
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        kind = f"one of {', '.join(choices)}"
    else:
        kind = flag.parser.syntactic_help or _KINDS.get(flag.flag_type(), "a text")
        kind = _KINDS.get(flag.flag_type(), kind) if "comma" in kind else kind
    return f"{kind} {_help(values, name)}"


def _help(values: flags.FlagValues, name: str) -> str:
    text = " ".join((values[name].help or "").split()).rstrip(".")
    return f"({re.sub('^<.*?>: ', '', text)})"  # absl puts choices before the help


def json_object(flag: str, text: str) -> dict[str, object]:
    """Reads the value of a flag that takes a JSON object. Raises ValueError if it is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"--{flag} must be JSON. Received: {text!r}: {error}. Expected: names in double "
            "quotes, all in single quotes for the shell, such as '{\"units\": [64, 32]}'."
        ) from error
    if not isinstance(value, dict):
        raise ValueError(
            f"--{flag} must be a JSON object. Received: {text!r}. Expected: names and values, such "
            "as '{\"units\": [64, 32]}'."
        )
    return value
