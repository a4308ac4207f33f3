"""The spec of a simulated log where no other is asked for. It shows most of what a spec can say."""

from __future__ import annotations

import datetime
import string

_FIRST = datetime.date(2024, 1, 1)
_MIN_DAYS = 3
_SPEC = string.Template("""\
# A simulated click log. Which clicks are noise is known, but not here: no spec names that file.
name = "simulated"

[input]
files = "log.*"

# The last day is for testing, the one before for validation.
[split]
day_column = "date"
valid_from = $valid_from
test_from = $test_from

# The last items that a user clicked before an impression, from the log itself.
[history]
name = "click_history"
length = 20

[columns]
# Who saw what, when, and whether it was clicked. Rare ids share one that stands for unknown ones.
user_id = { role = "user", type = "int", encoding = "vocabulary", min_count = 2 }
item_id = { role = "item", type = "string", encoding = "vocabulary", min_count = 2 }
time_ms = { role = "timestamp", type = "int", unit = "ms" }
date = { role = "ignore", type = "int" }
click = { role = "label", type = "int" }

# Groups of users: impressions counted before the log begins. Active users click more carelessly.
$group

# The user.
user_age = { type = "int", encoding = "buckets", boundaries = [18, 25, 35, 50, 65] }
user_city = { type = "string", encoding = "vocabulary", max_size = 40, default = "user_city_0" }

# The item.
item_category = { type = "string", encoding = "vocabulary" }
item_author = { type = "int", encoding = "hash", num_buckets = 1000 }
item_tags = { type = "int", encoding = "hash", num_buckets = 100, max_length = 4, dim = 8 }
item_price = { type = "float", encoding = "numeric", scaling = "log_standard" }
item_seconds = { type = "int", encoding = "buckets", quantiles = 10, dim = 8 }

# The request: hour of the day, scene of the app, device, and what the network was like.
hour = { type = "int", encoding = "identity", num_values = 24, dim = 8 }
scene = { type = "int", encoding = "identity", num_values = 6, dim = 8 }
device = { type = "string", encoding = "vocabulary", num_oov = 3, dim = 8 }
latency = { type = "float", encoding = "numeric", scaling = "standard" }

# Known only after the click: never a model input.
long_view = { role = "satisfaction", type = "int" }
like = { role = "satisfaction", type = "int" }
play_time_ms = { role = "satisfaction", type = "int" }
""")


def default_spec(num_groups: int, days: int) -> str:
    """The text of a spec for so many groups of users and days.

    Raises:
      ValueError: too few days to train, validate and test on.
    """
    if days < _MIN_DAYS:
        raise ValueError(
            f"A log needs at least {_MIN_DAYS} days, to train, validate and test on. "
            f"Received: {days}."
        )
    last = _FIRST + datetime.timedelta(days=days - 1)
    return _SPEC.substitute(
        valid_from=f"{last - datetime.timedelta(days=1):%Y%m%d}",
        test_from=f"{last:%Y%m%d}",
        group=_group_column(num_groups),
    )


def _group_column(num_groups: int) -> str:
    name = "user_earlier_impressions"
    if num_groups == 1:
        return f'{name} = {{ role = "ignore", type = "int" }}'
    boundaries = [15 * 2**i for i in range(num_groups - 1)]
    return (
        f'{name} = {{ role = "group", type = "int", encoding = "buckets", '
        f"boundaries = {boundaries}, default = 0 }}"
    )
