"""A simulated log in the shape of a spec: its columns and side tables, and the truth beside it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline import simulated_columns as values
from data_pipeline.simulated_days import Days, plan_days
from data_pipeline.simulated_groups import NoisyGroups, divide_users
from data_pipeline.simulation import (
    NUM_FACTORS,
    Clicks,
    Impressions,
    World,
    WorldSize,
    draw,
    draw_clicks,
    draw_impressions,
    draw_world,
    interest_probability,
    stream,
)


@dataclasses.dataclass(frozen=True)
class SimulatedLog:
    """What `simulate_log` returns.

    Attributes:
      log: one row an impression, or one a shown list where the spec explodes lists.
      tables: the spec's side tables by name.
      truth: one row an impression in the order of the log: user, item, timestamp (raw values),
        interest_probability, is_noise, noise_rate.
      group: int64 `[rows]`, the true group of each impression's user.
      clicked: bool `[rows]`.
      days: number of days.
    """

    log: pa.Table
    tables: dict[str, pa.Table]
    truth: pa.Table
    group: np.ndarray
    clicked: np.ndarray
    days: int

    def summary(self) -> dict[str, object]:
        """Rows and click rate, of all and by group, with the noise rate that was found in it."""
        interested = self.clicked & ~self.truth["is_noise"].to_numpy()
        groups = []
        for number in range(int(self.group.max()) + 1):
            rows = self.group == number
            uninterested = rows & ~interested
            noise = int(np.count_nonzero(uninterested & self.clicked))
            groups.append(
                {
                    "rows": int(np.count_nonzero(rows)),
                    "click_rate": float(self.clicked[rows].mean()) if rows.any() else None,
                    "noise_rate": noise / max(int(np.count_nonzero(uninterested)), 1),
                }
            )
        return {
            "rows": len(self.clicked),
            "click_rate": float(self.clicked.mean()),
            "interest_rate": float(interested.mean()),
            "groups": groups,
        }


def simulate_log(
    spec: ClickLogSpec,
    size: WorldSize,
    noise_rates: Sequence[float],
    days: int | None = None,
    *,
    interest_noise: float | None = None,
) -> SimulatedLog:
    """Simulates a log that `spec` describes.

    Columns of a side table describe what its key names. Columns of the log whose names begin like
    the user's or the item's describe these, and all others the request. The truth is the same for
    all specs with the same days and groups.

    Args:
      spec: of the log.
      size: how much, and the seed.
      noise_rates: the chance that an impression without interest is clicked, for each group from
        the least active users to the most active (see `divide_users`).
      days: how many; by default as many as the split needs, at least 10.
      interest_noise: rate r of noise that falls with interest p instead, to r * (1 - p);
        `noise_rates` then only say how many groups there are.

    Raises:
      ValueError: the number of rates is not that of the groups, or the spec's split does not fit.
    """
    plan = plan_days(spec, days)
    world = draw_world(size)
    impressions = draw_impressions(world, plan.count)
    row_rates = None
    if interest_noise is not None:
        interest = interest_probability(world, impressions)
        row_rates = (interest_noise * (1 - interest)).astype(np.float32)
    groups = divide_users(spec, world, impressions, plan, noise_rates, row_rates)
    clicks = draw_clicks(world, impressions, groups.rate)

    writer = _Columns(spec, world, impressions, clicks, groups, plan)
    log = {column.source_name: writer.of_log(column) for column in writer.of_table(None)}
    tables = {name: writer.side_table(name, log) for name in spec.tables}
    keys = {role: log[getattr(spec, role).source_name] for role in ("user", "item", "timestamp")}
    truth = pa.table(
        {
            **keys,
            "interest_probability": clicks.interest_probability,
            "is_noise": clicks.is_noise,
            "noise_rate": groups.rate,
        }
    )
    if spec.explode:
        log = _shown_lists(spec, log, impressions, clicks)
    group = groups.of_user[impressions.user]
    return SimulatedLog(pa.table(log), tables, truth, group, clicks.clicked, plan.count)


class _Columns:
    """The values of each column."""

    def __init__(
        self,
        spec: ClickLogSpec,
        world: World,
        impressions: Impressions,
        clicks: Clicks,
        groups: NoisyGroups,
        days: Days,
    ):
        self.spec, self.world, self.impressions = spec, world, impressions
        self.clicks, self.groups, self.days = clicks, groups, days
        starts = np.flatnonzero(impressions.position == 0)
        self._hour = impressions.hour[starts]
        self._factors = {
            "user": world.user_factors,
            "item": world.item_factors,
            "request": impressions.context[starts],
        }
        self._stems = {
            entity: re.sub(r"_?id$", "", getattr(spec, entity).name) for entity in ("user", "item")
        }
        self._category = next(filter(self._may_be_category, spec.source_columns), None)
        praise = (
            column
            for column in spec.with_role("satisfaction")
            if values.satisfaction_kind(column) == "praise"
        )
        self._first_praise = next(praise, None)

    def of_table(self, table: str | None) -> list[ColumnSpec]:
        """Columns to be written; a column that is read twice is written once."""
        columns = [column for column in self.spec.source_columns if column.table == table]
        return list({column.source_name: column for column in reversed(columns)}.values())[::-1]

    def of_log(self, column: ColumnSpec) -> pa.Array:
        """Values `[rows]` of a column of the log."""
        spec, impressions, clicks = self.spec, self.impressions, self.clicks
        rng = self._stream(column)
        if column.name == spec.split.day_column:
            return self.days.values(impressions.day, column.type)
        if spec.explode and column.name == spec.explode.position:
            return pa.array(impressions.position)
        match column.role:
            case "user" | "item":
                return values.entity_ids(column, getattr(impressions, column.role))
            case "label" if column.name != spec.label.name:
                praise = values.satisfaction_values(column, clicks.satisfaction, rng, common=True)
                return pc.fill_null(praise, 0)
            case "label":
                return values.label_values(column, clicks.clicked, rng)
            case "satisfaction":
                common = column is self._first_praise
                return values.satisfaction_values(column, clicks.satisfaction, rng, common=common)
            case "timestamp":
                offset = 0.0 if spec.split.day_column else spec.split.utc_offset
                return values.timestamp_values(
                    column, self.days.epoch_ms(impressions.milliseconds, offset)
                )
            case "weight":
                return pa.array(rng.uniform(0.5, 1.5, len(impressions.user)).astype(np.float32))
        entity = self._entity(column)
        return self._described(column, entity).take(pa.array(getattr(impressions, entity)))

    def side_table(self, name: str, log: dict[str, pa.Array]) -> pa.Table:
        """A side table, with a row for each of its keys."""
        table = self.spec.tables[name]
        log_key = table.log_key or table.key
        entity = self._key_entity(log_key)
        if entity is None:
            keys = pc.drop_null(pc.unique(log[log_key]))
            factors = stream(self.world.size.seed, f"table {name}").standard_normal(
                (len(keys), NUM_FACTORS)
            )
            self._factors[name] = factors
        else:
            key_column = getattr(self.spec, entity)
            keys = values.entity_ids(key_column, np.arange(len(self._factors[entity])))
        columns = {table.key: keys}
        for column in self.of_table(name):
            columns.setdefault(column.source_name, self._described(column, entity or name))
        return pa.table(columns)

    def _described(self, column: ColumnSpec, entity: str) -> pa.Array:
        """Values of a column for each user, item, request, or row of another table."""
        rng, factors = self._stream(column), self._factors[entity]
        if column.role == "group" and entity == "user":
            return values.group_values(column, self.groups.of_user, self.world.activity, rng)
        if entity == "request" and "hour" in column.source_name and column.type == "int":
            return pa.array(self._hour * (100 if "min" in column.source_name else 1))
        if column is self._category:
            return values.entity_ids(column, self.world.category)
        if column.shares and self.spec.owner(column).role == "item" and column.is_list:
            return self._liked_items(column, entity)
        return values.feature_values(self.spec, column, values.scores(factors, rng), rng)

    def _liked_items(self, column: ColumnSpec, entity: str) -> pa.Array:
        """Lists of items; a user's are more to the user's taste than popularity alone."""
        rng, factors, world = self._stream(column), self._factors[entity], self.world
        lengths = rng.integers(column.max_length + 1, size=len(factors))
        one, other = (draw(rng, world.popularity, lengths.sum()) for _ in range(2))
        if entity == "user":
            tastes = np.repeat(factors[:, :-1], lengths, axis=0)
            gain = world.item_factors[one, :-1] - world.item_factors[other, :-1]
            one = np.where(np.einsum("ij,ij->i", tastes, gain) > 0, one, other)
        return values.joined(values.entity_ids(self.spec.item, one), lengths, column.separator)

    def _entity(self, column: ColumnSpec) -> str | None:
        """What a column describes."""
        if column.table is not None:
            table = self.spec.tables[column.table]
            return self._key_entity(table.log_key or table.key)
        if column.role == "group":
            return "user"
        for entity, stem in self._stems.items():
            if stem and column.name.startswith(stem):
                return entity
        return "request"

    def _key_entity(self, log_key: str) -> str | None:
        known = {getattr(self.spec, entity).source_name: entity for entity in ("user", "item")}
        return known.get(log_key)

    def _may_be_category(self, column: ColumnSpec) -> bool:
        return (
            column.role == "feature"
            and column.encoding == "vocabulary"
            and column.max_size is None
            and not column.is_list
            and self._entity(column) == "item"
        )

    def _stream(self, column: ColumnSpec) -> np.random.Generator:
        return stream(self.world.size.seed, f"column {column.name}")


def _shown_lists(
    spec: ClickLogSpec, log: dict[str, pa.Array], impressions: Impressions, clicks: Clicks
) -> dict[str, pa.Array]:
    """The log with one row a request, which lists the shown and the clicked items.

    Other columns have the value of the request's first item.
    """
    explode, requests = spec.explode, int(impressions.request[-1]) + 1
    items = log[spec.item.source_name]
    gone = {spec.item.source_name, spec.label.source_name}
    if explode.position:
        gone.add(spec.column(explode.position).source_name)
    starts = pa.array(np.flatnonzero(impressions.position == 0))
    rows = {name: column.take(starts) for name, column in log.items() if name not in gone}
    for name, chosen in (
        (explode.shown, np.ones_like(clicks.clicked)),
        (explode.clicked, clicks.clicked),
    ):
        lengths = np.bincount(impressions.request[chosen], minlength=requests)
        rows[name] = values.joined(items.filter(pa.array(chosen)), lengths, explode.separator)
    return rows
