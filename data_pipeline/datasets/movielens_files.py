"""The official files of MovieLens-100k and 1M, which are neither UTF-8 nor CSV, as Parquet."""

from __future__ import annotations

import pathlib

import duckdb

from data_pipeline.directories import whole_directory

_INTEGER, _TEXT = "BIGINT", "VARCHAR"
_RATING = dict.fromkeys(("user_id", "movie_id", "rating", "timestamp"), _INTEGER)
_SELECT = {
    "ratings": "*",
    "users": "user_id, age, gender, occupation, substr(zip, 1, 2) AS region",
    "movies": "movie_id, title, genres, "
    r"TRY_CAST(regexp_extract(title, '\((\d{4})\)\s*$', 1) AS BIGINT) AS year",
}
_MARK = "ratings.parquet"


def convert(
    source: str | pathlib.Path, output_dir: str | pathlib.Path, *, overwrite: bool = False
) -> dict[str, int]:
    """Converts the official files in the directory `source`.

    Returns:
      File name -> rows.

    Raises:
      FileNotFoundError: the files of neither release are there.
      FileExistsError: `output_dir` is in use.
      ValueError: a file is not in the official format.
    """
    source, rows = pathlib.Path(source), {}
    with (
        whole_directory(output_dir, mark=_MARK, overwrite=overwrite) as beside,
        duckdb.connect() as connection,
    ):
        for name, table in _tables(source).items():
            target = _quoted(str(beside / f"{name}.parquet"))
            query = f"COPY (SELECT {_SELECT[name]} FROM {table}) TO {target} (FORMAT parquet)"
            try:
                (rows[f"{name}.parquet"],) = connection.execute(query).fetchone()
            except duckdb.Error as error:
                raise ValueError(
                    f"The {name} in {source} are not in the official format. Received: {error}. "
                    "Expected: files as they were released; fetch them again."
                ) from error
    return rows


def _tables(source: pathlib.Path) -> dict[str, str]:
    """Output -> SQL that reads it from the release that lies in `source`."""
    releases = {
        ("u.data", "u.user", "u.item", "u.genre"): _tables_of_100k,
        ("ratings.dat", "users.dat", "movies.dat"): _tables_of_1m,
    }
    for names, tables in releases.items():
        if all((source / name).is_file() for name in names):
            return tables(source)
    expected = ", or ".join(", ".join(names) for names in releases)
    found = ", ".join(sorted(path.name for path in source.glob("*"))) or "nothing"
    raise FileNotFoundError(
        f"{source} is no MovieLens directory. Received: {found}. Expected: {expected}."
    )


def _tables_of_100k(source: pathlib.Path) -> dict[str, str]:
    lines = (source / "u.genre").read_text(encoding="latin-1").splitlines()
    genres = [line.split("|")[0] for line in lines if line]
    flags_of = {f"genre_{i}": _INTEGER for i in range(len(genres))}
    names = ", ".join(
        f"CASE {flag} WHEN 1 THEN {_quoted(genre)} END"
        for flag, genre in zip(flags_of, genres, strict=True)
    )
    movies = _read(
        source / "u.item",
        "|",
        {"movie_id": _INTEGER}
        | dict.fromkeys(("title", "released", "released_on_video", "url"), _TEXT)
        | flags_of,
    )
    return {
        "ratings": _read(source / "u.data", "\t", _RATING),
        "users": _read(
            source / "u.user",
            "|",
            {"user_id": _INTEGER, "age": _INTEGER}
            | dict.fromkeys(("gender", "occupation", "zip"), _TEXT),
        ),
        "movies": f"(SELECT *, concat_ws('|', {names}) AS genres FROM {movies})",
    }


def _tables_of_1m(source: pathlib.Path) -> dict[str, str]:
    user = {
        "user_id": _INTEGER,
        "gender": _TEXT,
        "age": _INTEGER,
        "occupation": _TEXT,
        "zip": _TEXT,
    }
    return {
        "ratings": _read(source / "ratings.dat", "::", _RATING),
        "users": _read(source / "users.dat", "::", user),
        "movies": _read(
            source / "movies.dat", "::", {"movie_id": _INTEGER, "title": _TEXT, "genres": _TEXT}
        ),
    }


def _read(path: pathlib.Path, delimiter: str, columns: dict[str, str]) -> str:
    types = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in columns.items())
    return (
        f"read_csv({_quoted(str(path))}, delim = '{delimiter}', columns = {{{types}}}, "
        "header = false, quote = '', escape = '', encoding = 'latin-1', auto_detect = false)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
