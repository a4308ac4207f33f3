"""What the earlier logs of KuaiRand-Pure say about its users before the training window."""

from __future__ import annotations

import os
import pathlib

import duckdb

LOGS, TABLE = "log_standard_*_pure.csv*", "user_history_before_4_25_pure.csv"
_FIRST_DAY = 20220425
_LENGTH = 50
_QUERY = f"""
    WITH impressions AS (
        SELECT DISTINCT * FROM read_csv(?, union_by_name = true) WHERE date < {_FIRST_DAY}
    )
    SELECT
        user_id,
        count(*) AS history_len,
        list(video_id ORDER BY time_ms, video_id) AS watched,
        list(video_id ORDER BY time_ms, video_id) FILTER (long_view = 1) AS watched_long
    FROM impressions GROUP BY user_id
"""


def write_histories(directory: str | pathlib.Path, *, overwrite: bool = False) -> dict[str, int]:
    """Writes the side table into the directory of the official logs.

    Returns:
      Users, and impressions that were counted.

    Raises:
      FileNotFoundError: there are no logs, or none of earlier days.
      FileExistsError: the table is there already.
      ValueError: a log is not in the official format.
    """
    directory = pathlib.Path(directory)
    logs = sorted(str(path) for path in directory.glob(LOGS))
    if not logs:
        raise FileNotFoundError(
            f"There are no logs. Received: {directory}, without {LOGS}. Expected: the directory of "
            "the official logs."
        )
    made = [path.name for path in directory.glob(f"{TABLE}*")]
    if made and not (overwrite and made == [TABLE]):
        raise FileExistsError(
            f"The side table is there already. Received: {', '.join(made)} in {directory}. "
            f"Expected: none. Remove it, or give --overwrite to replace {TABLE}."
        )
    beside = directory / f".{TABLE}.tmp-{os.getpid()}"
    last = f"array_to_string({{}}[-{_LENGTH}:], ' ')"
    try:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE users AS {_QUERY}", [logs])
            users, impressions = connection.execute(
                "SELECT count(*), sum(history_len)::BIGINT FROM users"
            ).fetchone()
            if not users:
                raise FileNotFoundError(
                    f"The logs have no rows before {_FIRST_DAY}. Received: {directory}. Expected: "
                    "the earlier log too, log_standard_4_08_to_4_21_pure.csv."
                )
            connection.sql(
                f"SELECT user_id, history_len, {last.format('watched')} AS watch_seq, "
                f"{last.format('watched_long')} AS long_watch_seq FROM users ORDER BY user_id"
            ).write_csv(str(beside))
        os.replace(beside, directory / TABLE)
    except duckdb.Error as error:
        raise ValueError(
            f"The logs in {directory} are not in the official format. Received: {error}. Expected: "
            "files as they were released; fetch them again."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return {"users": users, "impressions": impressions}
