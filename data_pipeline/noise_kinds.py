"""Kinds of planted noise: where a non-click becomes a click, and how likely that is.

    groups:.05,.10,.20,.35    each user group at a rate of its own, or all at one
    items:.1:.4               a tenth of the items, drawn by the seed, at .4
    where:tab=1:.3            rows in which column `tab` is 1, at .3
    interest:.4               at .4 (1 - p): the likelier a click was, the rarer it is noise

The rate stands last. A new kind is a class under `@register_noise`, which `--noise` of
`clsd-prepare` and `clsd-compare` then knows. No TensorFlow is imported, so that flags are checked
at once.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import ClassVar

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from clsd_tf.features import GROUP, ClickLogSpec
from data_pipeline.hashing import hashed, threshold
from data_pipeline.noise_base import (
    LIMIT,
    NOISE_KINDS,
    NOWHERE,
    NoiseError,
    NoiseKind,
    NoisyLog,
    check_probabilities,
    no_form,
    register_noise,
    to_number,
)
from data_pipeline.splits import SPLIT


def noise_forms() -> str:
    """The forms of all kinds, for help and errors."""
    return ", ".join(kind.form for kind in NOISE_KINDS.values())


def parse_noise(text: str) -> NoiseKind:
    """Reads planted noise such as "items:.1:.4".

    Raises:
      NoiseError: it is none.
    """
    name, colon, rest = text.partition(":")
    if not colon or name not in NOISE_KINDS:
        raise NoiseError(
            f"Planted noise is a kind, a colon and its rates. Received: {text!r}. Expected one of: "
            f"{noise_forms()}."
        )
    return NOISE_KINDS[name].parse(rest)


def group_rates(rates: Sequence[float], names: Sequence[str]) -> list[float]:
    """The rate of each group, in the order of their numbers; a single rate is that of all.

    Args:
      rates: chance that a non-click becomes a click, in [0, 1].
      names: of the groups, in the order of their numbers.

    Raises:
      NoiseError: a rate is no probability, or there is another number of rates than of groups.
    """
    check_probabilities(rates, "A noise rate")
    if len(rates) == 1:
        rates = [*rates] * len(names)
    if len(rates) != len(names):
        raise NoiseError(
            f"Noise rates go with user groups, one each, or one for all. Received: {len(rates)} "
            f"rates. Expected: {len(names)}, for the groups {', '.join(names)}."
        )
    return [*rates]


@register_noise("groups")
@dataclasses.dataclass(frozen=True)
class GroupNoise(NoiseKind):
    """A rate for each user group, or one for all: what `mixture` supposes."""

    form: ClassVar[str] = "groups:RATE,RATE,..."
    rates: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> GroupNoise:
        """See the base class."""
        rates = tuple(to_number(part, cls.form) for part in text.split(","))
        check_probabilities(rates, "A noise rate")
        return cls(rates)

    def __str__(self) -> str:
        return f"groups:{','.join(f'{rate:g}' for rate in self.rates)}"

    def add_limits(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """See the base class."""
        rates = group_rates(self.rates, log.group_names)
        cases = [(rows[GROUP] == group, threshold(rate)) for group, rate in enumerate(rates)]
        return rows.mutate(**{LIMIT: ibis.cases(*cases, else_=NOWHERE)})


@register_noise("items")
@dataclasses.dataclass(frozen=True)
class ItemNoise(NoiseKind):
    """A share of the items at one rate: clickbait."""

    form: ClassVar[str] = "items:SHARE:RATE"
    share: float
    rate: float

    @classmethod
    def parse(cls, text: str) -> ItemNoise:
        """See the base class."""
        parts = text.split(":")
        if len(parts) != 2:
            raise no_form(f"items:{text}", cls.form)
        share, rate = (to_number(part, cls.form) for part in parts)
        check_probabilities([share], "A share of items")
        check_probabilities([rate], "A noise rate")
        return cls(share, rate)

    def __str__(self) -> str:
        return f"items:{self.share:g}:{self.rate:g}"

    def add_limits(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """See the base class."""
        chosen = hashed("noise items", log.seed, rows[log.spec.item.name]) < threshold(self.share)
        limit = ibis.ifelse(chosen, threshold(self.rate), NOWHERE)
        return rows.mutate(**{LIMIT: limit})


@register_noise("where")
@dataclasses.dataclass(frozen=True)
class CategoryNoise(NoiseKind):
    """Rows in which a column has one value: a scene in which a click means little."""

    form: ClassVar[str] = "where:COLUMN=VALUE:RATE"
    column: str
    value: str
    rate: float

    @classmethod
    def parse(cls, text: str) -> CategoryNoise:
        """See the base class."""
        condition, colon, rate = text.rpartition(":")
        column, equals, value = condition.partition("=")
        if not (colon and equals and column and value):
            raise no_form(f"where:{text}", cls.form)
        noise = cls(column, value, to_number(rate, cls.form))
        check_probabilities([noise.rate], "A noise rate")
        return noise

    def __str__(self) -> str:
        return f"where:{self.column}={self.value}:{self.rate:g}"

    def add_limits(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """See the base class."""
        value = self._typed_value(log.spec)
        matches = rows[self.column] == value
        self._require_rows(rows, matches)
        limit = ibis.ifelse(matches, threshold(self.rate), NOWHERE)
        return rows.mutate(**{LIMIT: limit})

    def _typed_value(self, spec: ClickLogSpec) -> int | str:
        possible = {
            column.name: column
            for column in spec.columns
            if column.role in ("feature", "user", "item", "group")
            and column.type != "float"
            and not column.is_list
        }
        if self.column not in possible:
            close = difflib.get_close_matches(self.column, possible, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise NoiseError(
                f"Noise is planted where a column that is known before the click has a value. "
                f"Received: '{self.column}'. Expected one of: {', '.join(possible)}.{hint}"
            )
        if possible[self.column].type == "string":
            return self.value
        try:
            return int(self.value)
        except ValueError as error:
            raise NoiseError(
                f"Column '{self.column}' holds integers. Received: {self.value!r} in {self}. "
                "Expected: an integer."
            ) from error

    def _require_rows(self, rows: ir.Table, matches: ir.BooleanValue) -> None:
        training = rows.filter(rows[SPLIT] == "train")
        if training.filter(matches).count().to_pyarrow().as_py():
            return
        counts = training.group_by(value=training[self.column]).agg(count=training.count())
        frequent = counts.order_by([ibis.desc("count"), "value"]).limit(5).to_pyarrow()["value"]
        raise NoiseError(
            f"No training row is there to plant noise in. Received: {self}. Expected: a value of "
            f"'{self.column}', the most frequent being {', '.join(map(str, frequent.to_pylist()))}."
        )


@register_noise("interest")
@dataclasses.dataclass(frozen=True)
class InterestNoise(NoiseKind):
    """A rate that falls with interest p: rate * (1 - p), from `rate` where p = 0 to 0 where p = 1.

    p is not known of a log. In its place stands what needs no trained model, this project's choice:
    the odds of the item times those of the user over those of all, of training clicks as logged;
    click rates of items and users are shrunk to that of all, as by `PRIOR` more impressions. In a
    simulated log p is known, and `clsd-simulate --noise=interest:RATE` uses it.
    """

    form: ClassVar[str] = "interest:RATE"
    PRIOR: ClassVar[int] = 20
    # Rates are rounded to multiples of 1 / LEVELS, each with a text to compare hashes with.
    LEVELS: ClassVar[int] = 1024
    rate: float

    @classmethod
    def parse(cls, text: str) -> InterestNoise:
        """See the base class."""
        noise = cls(to_number(text, cls.form))
        check_probabilities([noise.rate], "A noise rate")
        return noise

    def __str__(self) -> str:
        return f"interest:{self.rate:g}"

    def add_limits(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """See the base class."""
        rows = self._add_odds(log, rows)
        rate = self.rate / (1 + rows["_noise_odds"])  # rate * (1 - p)
        rows = rows.mutate(_noise_level=(rate * self.LEVELS).round().cast("int64"))
        levels = range(self.LEVELS + 1)
        limits = pa.table(
            {"_level": levels, LIMIT: [threshold(level / self.LEVELS) for level in levels]}
        )
        table = log.engine.create_table("noise_levels", ibis.memtable(limits))
        joined = rows.left_join(table, rows["_noise_level"] == table["_level"])
        return joined.select(rows, table[LIMIT]).drop("_noise_odds", "_noise_level")

    def _add_odds(self, log: NoisyLog, rows: ir.Table) -> ir.Table:
        """Adds `_noise_odds`, p / (1 - p)."""
        training, label = rows.filter(rows[SPLIT] == "train"), log.spec.label.name
        total = training.aggregate(clicks=training[label].sum(), rows=training.count())
        clicks, count = total.to_pyarrow().to_pylist()[0].values()
        if not 0 < clicks < count:
            raise NoiseError(
                f"Interest is guessed from click rates. Received: {clicks} clicks in {count} "
                "training rows. Expected: clicks and non-clicks."
            )
        of_all = clicks / (count - clicks)
        prior = self.PRIOR * clicks / count
        ratios = []
        for name in (log.spec.item.name, log.spec.user.name):
            by = training.group_by(name).agg(_clicks=training[label].sum(), _rows=training.count())
            without = by["_rows"] - by["_clicks"]
            odds = (by["_clicks"] + prior) / (without + self.PRIOR - prior)
            by = by.select(name, _odds=odds / of_all)
            ratios.append(f"_noise_{name}")
            ratio = by["_odds"].fill_null(1.0).name(ratios[-1])
            rows = rows.left_join(by, name).select(rows, ratio)
        product = rows[ratios[0]] * rows[ratios[1]]
        return rows.mutate(_noise_odds=of_all * product).drop(*ratios)
