"""How far rows of today are from those that a model was trained on: pure comparisons."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

_ERRORS = 3.0  # standard errors within which a difference is put down to chance


@dataclasses.dataclass(frozen=True)
class Profile:
    """What rows are like.

    Attributes:
      rows: how many there are.
      click_rate: None of requests, which have no clicks.
      columns: column -> `missing` and, of numbers, `mean` and `deviation`
        (`data_pipeline.column_shares`).
      unknown: column -> share of its values that the encoding does not know.
      absent: columns that no row has.
      bad_rows: rows that could not be used.
    """

    rows: int
    click_rate: float | None
    columns: dict[str, dict[str, float]]
    unknown: dict[str, float]
    absent: tuple[str, ...] = ()
    bad_rows: int = 0


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far is too far.

    Attributes:
      click_rate: change, as a share of the click rate of training.
      missing: rise of a share of missing values, and share of bad rows.
      new: rise of a share of unknown values.
      shift: of a mean, in standard deviations of training.
    """

    click_rate: float
    missing: float
    new: float
    shift: float


@dataclasses.dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
      column: its name, or "click", or "row".
      what: was compared.
      training: value in training.
      now: value of today.
      limit: how far today's may be from it.
      too_far: whether it is farther, and not by chance.
    """

    column: str
    what: str
    training: float
    now: float
    limit: float
    too_far: bool

    def sentence(self) -> str:
        """What is wrong, as part of a sentence."""
        return (
            f"{self.column}: {self.what} {self.now:.4g}, in training {self.training:.4g} (limit "
            f"{self.limit:.4g})"
        )


def read_training(data_dir: str | pathlib.Path) -> Profile:
    """The profile of the rows that a data set trains on, as `clsd-prepare` has left it.

    Shares of unknown values are those of validation rows, if there are any: training rows know
    their own tokens.

    Raises:
      ValueError: `data_dir` is no data set, or one of an earlier version.
    """
    path = pathlib.Path(data_dir) / "stats.json"
    try:
        statistics = json.loads(path.read_text(encoding="utf-8"))
        train = statistics["splits"]["train"]
        return Profile(
            rows=train["rows"],
            click_rate=train["ctr"],
            columns=statistics["columns"],
            unknown={
                name: rates.get("valid", rates.get("train", 0.0))
                for name, rates in statistics["oov_rates"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not describe training rows. Received: {error!r}. Expected: the "
            "--output_dir of `clsd-prepare` of this version; prepare the log again."
        ) from error


def compare(training: Profile, now: Profile, limits: Limits) -> list[Finding]:
    """Compares two profiles; columns that one of them lacks are compared where both can be."""
    if not now.rows:
        raise ValueError("There is nothing to check. Received: no row that can be used.")
    bad = now.bad_rows / (now.rows + now.bad_rows)
    findings = [Finding("row", "share that cannot be used", 0.0, bad, limits.missing, False)]
    findings[0] = dataclasses.replace(findings[0], too_far=bad > limits.missing)
    findings += [Finding(name, "missing column, share", 0.0, 1.0, 0.0, True) for name in now.absent]
    if now.click_rate is not None:
        limit = limits.click_rate * training.click_rate
        error = _error(training.click_rate, now.rows)
        findings.append(
            _finding("click", "rate", training.click_rate, now.click_rate, limit, error)
        )
    for name, values in now.columns.items():
        then = training.columns.get(name)
        if then is None:
            continue
        findings.append(
            _rise("missing values", name, then["missing"], values["missing"], limits.missing, now)
        )
        present = now.rows * (1.0 - values["missing"])
        if "mean" in then and present:
            # Where all values were the same, any other is far.
            limit = limits.shift * then["deviation"]
            error = then["deviation"] / math.sqrt(present)
            findings.append(_finding(name, "mean", then["mean"], values["mean"], limit, error))
    for name, share in now.unknown.items():
        before = training.unknown.get(name, 0.0)
        findings.append(_rise("unknown values", name, before, share, limits.new, now))
    return findings


def _rise(what: str, name: str, then: float, share: float, limit: float, now: Profile) -> Finding:
    """A share that has become smaller is no fault."""
    found = _finding(name, f"share of {what}", then, share, limit, _error(then, now.rows))
    return dataclasses.replace(found, too_far=found.too_far and share > then)


def _finding(
    column: str, what: str, then: float, now: float, limit: float, error: float
) -> Finding:
    too_far = abs(now - then) > max(limit, _ERRORS * error)
    return Finding(column, what, then, now, limit, too_far)


def _error(share: float, rows: int) -> float:
    """Standard error of a share of so many rows; of 0 or 1 as if one row were otherwise."""
    share = min(max(share, 1.0 / (rows + 2)), 1.0 - 1.0 / (rows + 2))
    return math.sqrt(share * (1.0 - share) / rows)
