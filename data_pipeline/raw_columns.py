"""Names of the columns of raw files: how they are read, and what may be wrong with them."""

from __future__ import annotations

import csv
import difflib
import gzip
import pathlib
from collections.abc import Collection, Iterable, Sequence


def read_header(path: pathlib.Path, separator: str) -> tuple[str, ...]:
    """Names of the columns of a CSV file; pandas leaves the one of its index empty."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        # Later lines are decoded along with the first; one that is not UTF-8 is a bad row.
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = next(csv.reader(file, delimiter=separator, strict=True), [])
        "".join(names).encode("utf-8")
    except (OSError, EOFError, UnicodeEncodeError, csv.Error) as error:
        raise ValueError(
            f"Cannot read the header of {path}. Received: {error}. Expected: names of columns in "
            "UTF-8, with commas (tabs in .tsv) between them."
        ) from error
    if not names:
        raise ValueError(
            f"{path} is empty. Received: no line. Expected: a first line with the names of the "
            "columns."
        )
    return tuple(name.strip() or f"column_{i}" for i, name in enumerate(names))


def check_needed(found: Iterable[str], needed: Sequence[str], where: str) -> None:
    """Raises ValueError unless all needed columns are there; names all that are not."""
    found = list(found)
    missing = [column for column in needed if column not in found]
    if not missing:
        return
    told = []
    for column in missing:
        close = difflib.get_close_matches(column, found, n=1)
        told.append(f"'{column}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
    raise ValueError(
        f"{_begin(where)} lacks columns that the spec names: {', '.join(told)}. Received: the "
        f"columns {', '.join(found) or 'none'}. Expected: all that the spec names. Mend the names "
        "in the spec, or set `source`."
    )


def check_names(columns: Iterable[str], what: str, reserved: Collection[str]) -> None:
    """Raises ValueError for names that cannot be told apart, or that cannot be used.

    Args:
      columns: their names; the engine does not tell names apart by case alone.
      what: that has the columns, for the message.
      reserved: names that are used for other things.
    """
    seen: dict[str, str] = {}
    for column in columns:
        if (key := column.lower()) in seen:
            raise ValueError(
                f"Names of columns must differ by more than case. Received: '{seen[key]}' and "
                f"'{column}' in {what}. Expected: one of them; rename the other in the file."
            )
        if key in reserved:
            raise ValueError(
                f"{_begin(what)} has a column with a name that is taken. Received: '{column}'. "
                "Expected: another name; rename the column in the file."
            )
        if "\0" in column:
            raise ValueError(
                f"{_begin(what)} has a column with a NUL byte in its name. Received: "
                f"{column[:40]!r}. Expected: text in UTF-8; the file is damaged, or of another "
                "encoding."
            )
        seen[key] = column


def _begin(title: str) -> str:
    """A title as the beginning of a sentence."""
    return title[0].upper() + title[1:]
