"""The one declaration of a click log: every column named once, with its role, type and encoding.

A spec is a TOML file (`read_spec`). Everything else is derived from it: checks, vocabularies, the
parsing spec, model inputs, serving signatures, the simulator and `schema.pbtxt`.

    name = "my_log"

    [split]
    day_column = "date"
    valid_from = 20220504
    test_from = 20220505

    [columns]
    user_id = { role = "user", type = "int", encoding = "vocabulary", min_count = 2 }
    item_id = { role = "item", type = "int", encoding = "vocabulary" }
    age = { type = "float", encoding = "buckets", quantiles = 10 }
    click = { role = "label", type = "int" }
    time_ms = { role = "timestamp", type = "int", unit = "ms" }
    date = { role = "ignore", type = "int" }
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal[
    "feature", "label", "user", "item", "group", "timestamp", "satisfaction", "weight", "ignore"
]
ScalarType = Literal["string", "int", "float"]
Encoding = Literal["vocabulary", "hash", "identity", "buckets", "numeric"]

# Reserved names of what a shard row carries besides model inputs (see `data_pipeline.reader`).
LABEL, WEIGHT, GROUP, USER, ROW = "_label", "_weight", "_group", "_user", "_row"
# The logit of a teacher that has scored the row before, where scores are read beside the shards.
TEACHER_LOGIT = "_teacher_logit"


# Larger numbers are slips of the pen: of ids, which have 63 bits, and of what a row or an embedding
# holds.
_MOST_IDS, _MOST = 2**62, 2**16


class _Strict(BaseModel):
    """Unknown options are errors, and a spec never changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnSpec(_Strict):
    """One column of a click log.

    Which options go with which encoding is written in `clsd_tf.spec_checks.ENCODING_OPTIONS`.
    """

    name: str
    role: Role = "feature"
    type: ScalarType
    table: str | None = None  # side table the column comes from; None: the log itself
    source: str | None = None  # the column's name in its file, where it differs

    encoding: Encoding | None = None
    dim: int = Field(default=16, ge=1, le=_MOST)  # embedding dimension
    # Raw value that stands in for a missing one. With bool, so that `true` is seen as no number.
    default: bool | int | float | str | None = None
    model_input: bool = True

    min_count: int = Field(default=1, ge=1, le=_MOST_IDS)
    max_size: int | None = Field(default=None, ge=1, le=_MOST_IDS)
    num_oov: int = Field(default=1, ge=1, le=_MOST_IDS)
    num_buckets: int | None = Field(default=None, ge=1, le=_MOST_IDS)
    num_values: int | None = Field(default=None, ge=1, le=_MOST_IDS)
    boundaries: tuple[float, ...] | None = None
    quantiles: int | None = Field(default=None, ge=2, le=_MOST)
    scaling: Literal["none", "log", "standard", "log_standard"] = "none"

    max_length: int | None = Field(default=None, ge=1, le=_MOST)  # set: the column is a list
    separator: str = " "  # between the elements of a list that is stored as a string
    keep: Literal["first", "last"] = "last"  # which end of a list that is too long
    shares: str | None = None  # column whose vocabulary and embedding this one uses

    # Label: 1 where the raw value is at least this.
    positive_from: float | None = Field(default=None, allow_inf_nan=False)
    unit: Literal["s", "ms", "us"] = "ms"  # timestamp: unit of an epoch; ISO 8601 if a string
    derived: bool = False  # computed by `prepare`, not read from a file
    # What the column tells about, where `clsd_tf.entities` would take it for something else.
    describes: Literal["user", "item", "request"] | None = None

    @property
    def is_list(self) -> bool:
        """Whether a row holds several values."""
        return self.max_length is not None

    @property
    def is_numeric(self) -> bool:
        """Whether the model sees a float32 and not an id."""
        return self.encoding == "numeric"

    @property
    def source_name(self) -> str:
        """The column's name in its file."""
        return self.source or self.name


class TableSpec(_Strict):
    """A side table joined to the log by key: at most one row a key."""

    file: str  # relative to the log's directory; a glob is allowed
    key: str  # column of the table
    log_key: str | None = None  # column of the log, where its name differs


class InputSpec(_Strict):
    """Which files a directory given as `--input` is read from."""

    files: str = "*"


class SplitSpec(_Strict):
    """How rows are divided into train, valid and test.

    `by="day"`: rows from `valid_from` on are validation, from `test_from` on test; rows before
    `train_from` only feed activity groups and histories. `by="time"` and `by="user"` take
    fractions: the last rows by time, or users by hash.
    """

    by: Literal["day", "time", "user"] = "day"
    day_column: str | None = None  # None: the timestamp's date at `utc_offset`
    utc_offset: float = Field(default=0.0, ge=-14, le=14)  # hours
    train_from: int | str | None = None
    valid_from: int | str | None = None
    test_from: int | str | None = None
    valid_fraction: float = Field(default=0.1, gt=0, lt=1)
    test_fraction: float = Field(default=0.1, gt=0, lt=1)


class HistorySpec(_Strict):
    """The last `length` items that the user clicked strictly before the impression."""

    name: str = "click_history"
    length: int = Field(default=50, ge=1, le=_MOST)


class ActivitySpec(_Strict):
    """User groups by activity counted before the training window (`split.train_from`)."""

    name: str = "activity"
    count: Literal["impressions", "clicks"] = "impressions"
    boundaries: tuple[float, ...] | None = None
    quantiles: int | None = Field(default=None, ge=2, le=_MOST)


class ExplodeSpec(_Strict):
    """A log with one row per shown list: exploded to one impression per shown item."""

    shown: str  # column that lists the shown items
    clicked: str  # column that lists the clicked ones
    separator: str = " "
    position: str | None = None  # name of a declared feature that gets the place in the list


class ClickLogSpec(_Strict):
    """A whole click log. Read one with `clsd_tf.read_spec`."""

    name: str
    columns: tuple[ColumnSpec, ...]
    split: SplitSpec = SplitSpec()
    input: InputSpec = InputSpec()
    tables: dict[str, TableSpec] = {}
    history: HistorySpec | None = None
    activity: ActivitySpec | None = None
    explode: ExplodeSpec | None = None

    def column(self, name: str) -> ColumnSpec:
        """The column called `name`. Raises KeyError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def with_role(self, role: Role) -> tuple[ColumnSpec, ...]:
        """The columns that have `role`, in the order of the spec."""
        return tuple(column for column in self.columns if column.role == role)

    def _only(self, role: Role) -> ColumnSpec | None:
        return next(iter(self.with_role(role)), None)

    @property
    def label(self) -> ColumnSpec:
        """The click: the first column with the role of a label."""
        return self.with_role("label")[0]

    @property
    def further_labels(self) -> tuple[ColumnSpec, ...]:
        """Feedback that a model may learn next to the click (`clsd_tf.backbones.mmoe`)."""
        return self.with_role("label")[1:]

    @property
    def user(self) -> ColumnSpec:
        """The user's id: the unit of GAUC, histories and activity groups."""
        return self.with_role("user")[0]

    @property
    def item(self) -> ColumnSpec:
        """The item's id: what histories list."""
        return self.with_role("item")[0]

    @property
    def timestamp(self) -> ColumnSpec:
        """When the impression was shown."""
        return self.with_role("timestamp")[0]

    @property
    def group(self) -> ColumnSpec | None:
        """The user group that conditions the confidence, declared or by activity."""
        return self._only("group")

    @property
    def weight(self) -> ColumnSpec | None:
        """The log's own sample weight."""
        return self._only("weight")

    @property
    def source_columns(self) -> tuple[ColumnSpec, ...]:
        """Columns that are read from files, not computed."""
        return tuple(column for column in self.columns if not column.derived)

    @property
    def model_columns(self) -> tuple[ColumnSpec, ...]:
        """What a backbone sees. The group conditions the confidence and is not among them."""
        roles = ("feature", "user", "item")
        return tuple(c for c in self.columns if c.role in roles and c.model_input)

    @property
    def encoded_columns(self) -> tuple[ColumnSpec, ...]:
        """The model's columns and the group's."""
        return self.model_columns + self.with_role("group")

    def owner(self, column: ColumnSpec) -> ColumnSpec:
        """The column whose encoding `column` uses: itself, or the one it shares."""
        return self.column(column.shares) if column.shares else column

    def derive(self) -> ClickLogSpec:
        """The spec with the columns that `prepare` computes: click history and activity group."""
        columns = list(self.columns)
        if self.history:
            columns.append(
                ColumnSpec(
                    name=self.history.name,
                    type=self.item.type,
                    dim=self.item.dim,
                    shares=self.item.name,
                    max_length=self.history.length,
                    derived=True,
                )
            )
        if self.activity:
            columns.append(
                ColumnSpec(
                    name=self.activity.name,
                    role="group",
                    type="int",
                    encoding="buckets",
                    boundaries=self.activity.boundaries,
                    quantiles=self.activity.quantiles,
                    default=0,
                    derived=True,
                )
            )
        return self.model_copy(update={"columns": tuple(columns)})


@dataclasses.dataclass(frozen=True)
class ModelFeature:
    """One input of a backbone, after encoding.

    Categorical features are int64 ids in `[0, cardinality)`, 0 for missing or padding;
    numeric ones are float32. Shape `[batch]`, or `[batch, length]` for lists.
    """

    name: str
    kind: Literal["categorical", "numeric"]
    cardinality: int = 0
    dim: int = 16
    length: int | None = None
    table: str = ""  # features with the same table share ids and embedding
    role: str = "feature"

    @property
    def is_list(self) -> bool:
        """Whether a row holds several values."""
        return self.length is not None

    def get_config(self) -> dict[str, str | int | None]:
        """Plain values, for serialisation."""
        return dataclasses.asdict(self)
