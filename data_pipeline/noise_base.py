"""What a kind of planted noise is: the registry, and the contract of its entries."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from clsd_tf.features import ClickLogSpec

# A row is drawn where its hash is below this text; none is below the empty one.
LIMIT = "_noise_limit"
NOWHERE = ""


class NoiseError(ValueError):
    """Noise that cannot be planted as asked."""


@dataclasses.dataclass(frozen=True)
class NoisyLog:
    """The log that noise is planted in.

    Attributes:
      engine: that holds its rows.
      spec: of the log.
      group_names: of the user groups, in the order of their numbers.
      seed: of what is drawn.
    """

    engine: BaseBackend
    spec: ClickLogSpec
    group_names: Sequence[str]
    seed: int


class NoiseKind(abc.ABC):
    """Where noise is planted, at which rate.

    `str()` gives the text that `parse_noise` reads.
    """

    form: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def parse(cls, text: str) -> NoiseKind:
        """Reads what follows the kind's name and a colon. Raises NoiseError."""

    @abc.abstractmethod
    def add_limits(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """Adds `_noise_limit`: `hashing.threshold` of each row's rate, or "" for none.

        Args:
          log: that the rows are of.
          rows: with `_row`, `_split`, `_group` and the columns of the log, clicks as logged.

        Raises:
          NoiseError: the kind does not fit the log.
        """


NOISE_KINDS: dict[str, type[NoiseKind]] = {}


def register_noise(name: str) -> Callable[[type[NoiseKind]], type[NoiseKind]]:
    """Makes a kind known by `name`, which stands before the first colon."""

    def register(kind: type[NoiseKind]) -> type[NoiseKind]:
        NOISE_KINDS[name] = kind
        return kind

    return register


def to_number(text: str, form: str) -> float:
    """A number of planted noise written as `form`. Raises NoiseError if it is none."""
    try:
        return float(text)
    except ValueError as error:
        raise no_form(text, form) from error


def no_form(text: str, form: str) -> NoiseError:
    """An error: `text` is not written as `form`."""
    return NoiseError(f"Planted noise cannot be read. Received: {text!r}. Expected: {form}.")


def check_probabilities(values: Sequence[float], what: str) -> None:
    """Raises NoiseError, of `what`, unless all values are in [0, 1]."""
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        raise NoiseError(
            f"{what} is a probability. Received: {outside}. Expected: numbers in [0, 1]."
        )
