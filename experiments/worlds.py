"""The worlds of a comparison: a log as it is, with planted noise, or as of earlier days.

worlds/<name>/   a data set of `prepare`, made of the log that the given data set was made of
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clsd_tf.spec import parse_spec
from data_pipeline.manifest import Manifest
from data_pipeline.noise_base import NoiseError, NoiseKind
from data_pipeline.noise_kinds import GroupNoise, parse_noise

if TYPE_CHECKING:
    from data_pipeline.data_set import WriteOptions
    from data_pipeline.preparation import ReadOptions

AS_IS = "as_is"
_FORMATS = ("%Y%m%d", "%Y-%m-%d")


@dataclasses.dataclass(frozen=True)
class World:
    """A data set that arms are compared on.

    Attributes:
      name: also of its directory.
      noise_rates: planted, one for each user group or one for all; empty: none.
      noise: planted, of another kind, see `data_pipeline.noise_kinds`; None: none.
      last_training_day: of a rolling origin, which judges the day after it; None: days as in the
        spec.
    """

    name: str = AS_IS
    noise_rates: tuple[float, ...] = ()
    last_training_day: str | None = None
    noise: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether it is the data set that was given, as it is."""
        return self == World(self.name)


def noisy_world(rates: str) -> World:
    """The world of rates by user group with commas between them, such as ".05,.10".

    Raises:
      ValueError: they are no rates.
    """
    try:
        return _world_of(parse_noise(f"groups:{rates}"))
    except NoiseError as error:
        raise ValueError(
            f"--noise_rates are numbers with commas between them. Received: {rates!r}. Expected: a "
            "rate in [0, 1] for each user group, or one for all, such as .05,.10,.20,.35."
        ) from error


def _world_of(noise: NoiseKind) -> World:
    if isinstance(noise, GroupNoise):
        name = "_".join(f"{value:g}" for value in noise.rates)
        return World(f"noise_{name}", noise_rates=noise.rates)
    # The name is that of a directory; two that clash are told apart when the second is prepared.
    return World("noise_" + re.sub(r"[^\w.=-]+", "_", str(noise)), noise=str(noise))


def origin_world(last_training_day: str) -> World:
    """The world in which a day has just passed and the next is judged."""
    return World(f"origin_{last_training_day}", last_training_day=last_training_day)


class WorldMaker:
    """Finds or prepares the data sets of worlds.

    Args:
      data_dir: prepared data set, as it is.
      directory: where the others go.
      inputs: the log that `data_dir` was made of; None: as its manifest says.
      noise_seed: of planted noise.
    """

    def __init__(
        self,
        data_dir: str | pathlib.Path,
        directory: pathlib.Path,
        inputs: str | None,
        noise_seed: int = 0,
    ):
        """See the class."""
        self._data_dir, self._directory = pathlib.Path(data_dir), directory
        self._inputs, self._noise_seed = inputs, noise_seed

    def path(self, world: World) -> pathlib.Path:
        """Where the world's data set is, or will be."""
        return self._data_dir if world.is_given else self._directory / world.name

    def make(self, world: World) -> pathlib.Path:
        """Prepares the world's data set, unless it stands there already.

        Raises:
          ValueError: the log is not known, another one was prepared there, or days cannot be moved.
        """
        from data_pipeline.data_set import WriteOptions
        from data_pipeline.preparation import ReadOptions, prepare

        path = self.path(world)
        if world.is_given:
            return path
        prepared = Manifest.load(self._data_dir).prepared
        inputs = self._inputs or prepared.get("input")
        if inputs is None:
            raise ValueError(
                f"It is not known of which log the data set was made. Received: {self._data_dir}, "
                "whose manifest does not say. Expected: --input, the log that was given to "
                "`clsd-prepare`."
            )
        read = ReadOptions(**prepared.get("read", {}))
        write = WriteOptions(**prepared.get("write", {}))
        write = dataclasses.replace(
            write,
            noise_rates=world.noise_rates,
            noise=world.noise,
            noise_seed=self._noise_seed,
        )
        text = (self._data_dir / "spec.toml").read_text(encoding="utf-8")
        if world.last_training_day is not None:
            text, judged_day = spec_of_origin(text, world.last_training_day)
            read = dataclasses.replace(read, last_day=judged_day)
        if path.exists():
            self._require_same(path, text, read, write)
            return path
        spec = path.with_name(f"{path.name}.toml")
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text(text, encoding="utf-8")
        prepare(str(spec), inputs, path, read, write)
        return path

    def _require_same(
        self, path: pathlib.Path, text: str, read: ReadOptions, write: WriteOptions
    ) -> None:
        from data_pipeline.data_set import WriteOptions

        prepared = Manifest.load(path).prepared
        # Options that came later were at their defaults.
        known = {**dataclasses.asdict(WriteOptions()), **prepared.get("write", {})}
        prepared = json.loads(json.dumps({**prepared, "write": known}))
        asked = {"read": read.decisive(), "write": dataclasses.asdict(write)}
        asked = json.loads(json.dumps(asked))  # tuples are lists there
        same = all(prepared.get(name) == options for name, options in asked.items())
        if not same or (path / "spec.toml").read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{path} was prepared otherwise, or of another log. Received: {prepared}. "
                f"Expected: {asked}. Choose another --output_dir, or remove that world."
            )


def spec_of_origin(text: str, last_training_day: str) -> tuple[str, str]:
    """The spec of a log that is validated on the day after `last_training_day`, its last.

    Returns:
      TOML text, and the judged day as the log writes days.

    Raises:
      ValueError: the spec does not split by day, or its days are no dates.
    """
    split = parse_spec(text).split
    if split.by != "day":
        raise ValueError(
            f"Rolling origins move days. Received: a spec that splits by {split.by}. Expected: "
            'by = "day". Leave --origins out, or prepare the log by day.'
        )
    judged, after = (_later(last_training_day, days) for days in (1, 2))
    for option, day in (("valid_from", judged), ("test_from", after)):
        value = day if isinstance(getattr(split, option), int) else f'"{day}"'
        text, found = re.subn(rf"(?m)^(\s*{option}\s*=\s*)[^\s#]+", rf"\g<1>{value}", text)
        if found != 1:
            raise ValueError(
                f"The spec must give `{option}` once, on a line of its own. Received: {found} "
                "such lines."
            )
    return text, judged


def _later(day: str, days: int) -> str:
    for form in _FORMATS:
        try:
            date = datetime.datetime.strptime(day, form)
        except ValueError:
            continue
        return (date + datetime.timedelta(days)).strftime(form)
    raise ValueError(
        f"An origin is a day of the log. Received: {day!r}. Expected: one like 20220430 or "
        "2022-04-30."
    )


def choose_worlds(
    noise_rates: Sequence[str], origins: Sequence[str], noise: Sequence[str] = ()
) -> list[World]:
    """The log as it is and one world for each planted noise, or one for each origin.

    Args:
      noise_rates: such as ".05,.10", rates by user group.
      origins: days.
      noise: of any kind, see `data_pipeline.noise_kinds`.

    Raises:
      ValueError: noise and origins are asked for, or something is neither.
    """
    planted = [*map(noisy_world, noise_rates), *(_world_of(parse_noise(text)) for text in noise)]
    if planted and origins:
        raise ValueError(
            "Noise is planted in the log as it is, not in rolling origins. Received: --noise or "
            "--noise_rates and --origins. Expected: one of them; leave the other out."
        )
    if origins:
        return [origin_world(day) for day in origins]
    return [World(), *dict.fromkeys(planted)]
