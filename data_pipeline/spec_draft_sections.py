"""Sections of a drafted spec beside its columns: how the log is split, histories, groups."""

from __future__ import annotations

import json
import re

from data_pipeline.log_profile import LogProfile
from data_pipeline.toml_text import comment

# The least share of rows that a day, or several, must have to test on.
_MIN_SHARE = 0.03


def split_section(log: LogProfile) -> list[str]:
    """Lines of `[split]`: by day where there are days enough, else by time."""
    days, total = list(log.days), sum(log.days.values())
    test = valid = None
    rows = 0
    for day in reversed(days):
        rows += log.days[day]
        if rows >= _MIN_SHARE * total:
            if test is None:
                test, rows = day, 0
            else:
                valid = day
                break
    if valid is None or valid == days[0] or len(days) > 400:
        return [
            "# The last tenth of rows by time is for testing, the one before for validation.",
            "[split]",
            'by = "time"',
        ]
    lines = [
        f"# Rows of {len(days)} days, {days[0]} to {days[-1]}. The last are for testing, those",
        '# before for validation. Or: by = "time", with the last tenths of rows.',
        "[split]",
    ]
    day_column = log.roles.day
    is_number = day_column is not None and log.evidence[day_column].column.type == "int"
    if day_column is not None:
        lines.append(f"day_column = {json.dumps(re.sub(r'[^A-Za-z0-9_]+', '_', day_column))}")
    else:
        lines.append("utc_offset = 0  # hours: where a day of your users begins")
    lines += [
        f"{option} = {day if is_number else json.dumps(day)}"
        for option, day in (("valid_from", valid), ("test_from", test))
    ]
    return lines


def further_sections(log: LogProfile, *, has_group: bool) -> list[str]:
    """Lines of `[history]`, and what could make groups where no column is one."""
    lines = [
        "# The last items that a user clicked before an impression, from the log itself.",
        "[history]",
        "length = 50",
    ]
    if has_group:
        return lines
    days = list(log.days)
    begin = days[len(days) // 3] if len(days) >= 3 else "2024-03-04"
    number = log.roles.day is not None and log.evidence[log.roles.day].column.type == "int"
    return [
        *lines,
        "",
        *comment(
            "NOTE: no column looks like a group of users (a segment, a tier, earlier activity), so "
            "that there will be one group, and confidence knows no local part. Give a column role "
            '= "group", or take the lines below: users are then grouped by what they did before '
            "`train_from`, and earlier rows are for that only."
        ),
        f"# train_from = {begin if number else json.dumps(begin)}   # under [split]",
        "# [activity]",
        "# quantiles = 4",
    ]
