"""Section on data: what was trained on, and with which options."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from experiments.reporting.blocks import Section, Table, count, share
from experiments.reporting.runs import RunFacts


def data_section(runs: Sequence[RunFacts], statistics: Mapping) -> Section:
    """What was trained on, and with which options.

    Args:
      runs: of the report.
      statistics: `stats.json` of the data set.
    """
    splits, days = statistics["splits"], statistics["days"]
    unusable = sum(statistics["quarantined"].values())
    text = [
        f"Data set “{statistics['name']}”, {runs[0].config.data_dir}. "
        f"{count(statistics['rows_read'])} rows were read, from {min(days)} to {max(days)}; "
        f"{count(unusable)} of them were not usable, "
        f"{count(statistics['duplicates'])} were duplicates."
    ]
    tables = [
        Table(
            "Rows and clicks by split",
            ("split", "rows", "clicks", "click rate"),
            [(name, *_clicks(counts)) for name, counts in splits.items()],
        ),
        Table(
            "Training rows and clicks by user group",
            ("group", "rows", "clicks", "click rate"),
            [
                (name, *_clicks(by_split["train"]))
                for name, by_split in statistics["groups"].items()
                if "train" in by_split
            ],
        ),
        Table(
            "Rows and clicks by day",
            ("day", "rows", "clicks", "click rate"),
            [(day, *_clicks(counts)) for day, counts in days.items()],
            is_folded=len(days) > 7,
        ),
        *_options(runs),
    ]
    return Section("data", "What was trained on", text, tables=tables)


def _options(runs: Sequence[RunFacts]) -> list[Table]:
    """Options that differ between runs, and the others."""
    configs = [dataclasses.asdict(facts.config) for facts in runs]
    differing: list[tuple[str, ...]] = []
    shared: list[tuple[str, ...]] = []
    for name in configs[0]:
        values = [config[name] for config in configs]
        shown = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
        if name != "data":  # a checksum that is the same for all
            (differing if len(set(shown)) > 1 else shared).append((name, *shown))
    heads = ("option", *(facts.name for facts in runs))
    tables = []
    if differing:
        tables.append(Table("Options that differ", heads, differing, len(heads)))
    common = [row[:2] for row in shared]
    tables.append(Table("Options of all runs", ("option", "value"), common, 2, is_folded=True))
    return tables


def _clicks(counts: Mapping[str, float]) -> tuple[str, str, str]:
    return count(counts["rows"]), count(counts["clicks"]), share(counts["ctr"])
