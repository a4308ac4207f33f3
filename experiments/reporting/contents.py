"""Puts a report together: runs are scored, clicks summed up, sections and headlines made."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence

from clsd_tf import Encoder
from data_pipeline.directories import whole_file
from data_pipeline.manifest import Manifest
from data_pipeline.progress import steps
from experiments.click_confidences import confidences_path, has_confidence, write_confidences
from experiments.comparison_table import metric_name
from experiments.reporting.blocks import Section, count, decimal, difference, ends
from experiments.reporting.clicks import ClickSummary, summarize_clicks
from experiments.reporting.clicks_sections import confidence_section, origins_section
from experiments.reporting.comparison_section import comparison_section
from experiments.reporting.data_section import data_section
from experiments.reporting.judging import Judged, click_satisfaction, judge_runs
from experiments.reporting.metrics_sections import (
    calibration_section,
    metrics_section,
)
from experiments.reporting.page import Headline, render
from experiments.reporting.runs import RunFacts, base_of
from experiments.reporting.training_sections import cost_section, curves_section

_TRAIN = "train"
_TILES = 4


@dataclasses.dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
      page: HTML.
      metrics: what `results.json` says: of each run its metrics, and differences to the base.
    """

    page: str
    metrics: dict[str, object]

    def write(self, path: pathlib.Path) -> None:
        """Writes the page."""
        with whole_file(path) as beside:
            beside.write_text(self.page, encoding="utf-8")


def build_report(
    runs: Sequence[RunFacts],
    data_dir: str,
    split: str,
    *,
    draws: int,
    comparison: Mapping[str, Mapping] | None = None,
    title: str | None = None,
    written: datetime.datetime,
) -> Report:
    """Scores the runs and writes what there is to say about them.

    Args:
      runs: of one data set.
      data_dir: that data set.
      split: to judge the runs on.
      draws: bootstrap samples of users.
      comparison: results of a comparison.
      title: of the page.
      written: when.

    Raises:
      ValueError: the split or the training rows are empty.
    """
    if not Manifest.load(data_dir).rows.get(split):
        raise ValueError(
            f"There is nothing to report of the split '{split}'. Received: 0 rows in {data_dir}. "
            "Expected: some; choose another --split, or prepare the log with one."
        )
    statistics = json.loads((pathlib.Path(data_dir) / "stats.json").read_text(encoding="utf-8"))
    base = base_of(runs)
    judged = judge_runs(runs, base, data_dir, split, draws)
    clicks = {
        number: summary_of(facts, data_dir)
        for number, facts in enumerate(runs)
        if has_confidence(facts.config)
    }
    with steps() as begin:
        begin("Drawing")
        sections = [
            data_section(runs, statistics),
            metrics_section(judged, split, draws),
            *([comparison_section(comparison)] if comparison is not None else []),
            calibration_section(judged),
        ]
        for number, summary in clicks.items():
            sections += _of_clicks(number, runs[number], summary)
        sections += [curves_section(runs), cost_section(runs)]
        page = render(
            title or f"Report: {', '.join(facts.name for facts in runs)}",
            f"{statistics['name']}, judged on {split}, {written:%Y-%m-%d %H:%M} UTC",
            headlines(judged, base),
            sections,
            "Written by clsd-report. Click confidence after arXiv 2309.16322, as this project "
            "reads it. User ids are left out; item ids and the features of examples are not.",
        )
    return Report(page, {"runs": {each.facts.name: _row(each) for each in judged}})


def headlines(judged: Sequence[Judged], base: RunFacts | None) -> list[Headline]:
    """What to begin with: AUC of each run, and what satisfaction says of the first compared."""
    shown = []
    for each in judged:
        interval = each.contrasts.get("auc")
        note = each.facts.config.method
        if interval is not None:
            note = f"{difference(interval)} to plain ({ends(interval)}) / 0.0001"
        shown.append(
            Headline(f"AUC, {each.facts.name}", decimal(each.metrics["click"]["auc"]), note)
        )
    compared = next((each for each in judged if each.contrasts), None)
    if compared is not None:
        for name, interval in compared.contrasts.items():
            if name.endswith("_auc_among_clicks"):
                label = f"{metric_name(name)}, {compared.facts.name}"
                note = f"to plain, in 0.0001 ({ends(interval)})"
                shown.append(Headline(label, difference(interval), note))
    rows = judged[0].metrics["click"]["rows"]
    shown = shown[:_TILES]
    return [*shown, Headline("Rows judged", count(rows), "which no model was trained on")]


def summary_of(facts: RunFacts, data_dir: str) -> ClickSummary:
    """Sums up the confidence of a run's training clicks, which is written first if need be."""
    directory = facts.run.directory / "scores"
    path = confidences_path(directory / "confidences", _TRAIN)
    if not (path.exists() and _is_of(directory / "results.json", data_dir)):
        config = dataclasses.replace(facts.config, data_dir=data_dir)
        path = write_confidences(facts.run, config, _TRAIN, directory / "report")
    encoder = Encoder.load(facts.run.encoding)
    satisfaction = None
    if encoder.spec.with_role("satisfaction"):
        satisfaction = click_satisfaction(data_dir, encoder, _TRAIN)
    return summarize_clicks(path, encoder.spec, encoder.group_names(), satisfaction)


def _is_of(path: pathlib.Path, data_dir: str) -> bool:
    """Whether scores are known to be of a data set."""
    if not path.exists():
        return False
    config = json.loads(path.read_text(encoding="utf-8"))["config"]
    same = pathlib.Path(config["data_dir"]).resolve() == pathlib.Path(data_dir).resolve()
    return same and _TRAIN in config["splits"]


def _of_clicks(number: int, facts: RunFacts, summary: ClickSummary) -> list[Section]:
    return [confidence_section(number, facts, summary), origins_section(number, facts, summary)]


def _row(each: Judged) -> dict[str, object]:
    """What `results.json` says of a run."""
    intervals = {name: dataclasses.asdict(i) for name, i in each.contrasts.items()}
    groups = {name: dataclasses.asdict(i) for name, i in each.of_groups.items()}
    return {**each.metrics, "against_plain": intervals, "auc_against_plain_by_group": groups}
