"""The parts of a report: figures, page, and what is summed up of clicks. Nothing is trained."""

from __future__ import annotations

import json
import math
import pathlib
import re
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from experiments.reporting import charts
from experiments.reporting.blocks import Section, Table, difference, ends
from experiments.reporting.clicks import explained_variance, summarize_clicks, wilson_low
from experiments.reporting.clicks_sections import origins_section
from experiments.reporting.comparison_section import comparison_section
from experiments.reporting.page import Headline, render
from experiments.reporting.runs import read_comparison, short_names
from experiments.statistics import Interval
from tests.experiments.report_helpers import ODD, Page, odd_clicks, odd_spec

TABLE = Table("Numbers", ("name", "value"), [(ODD, "1")])
NOWHERE = Interval(math.nan, math.nan, math.nan, math.nan)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("clicks") / "it's.parquet"
    return path, odd_clicks(path)


@pytest.fixture(scope="module")
def summary(table):
    path, clicks = table
    signals = pa.table(
        {
            "_row": clicks["_row"],
            "long_view": (clicks["confidence"].to_numpy() > 0.5).astype(np.float32),
            "seconds": clicks["confidence"].to_numpy() * 100,
        }
    )
    return summarize_clicks(path, odd_spec(), ["1", "0"], signals)


@pytest.fixture(scope="module")
def figure():
    curves = {ODD: (np.arange(3), np.arange(3.0)), "b": (np.arange(3), np.ones(3))}
    return charts.lines("f", "Title & more", ODD, curves, ("x", "y"), TABLE, marks=True)


@pytest.fixture(scope="module")
def page(summary):
    class Facts:
        name = ODD

    figure = charts.bars("h", ODD, ODD, {ODD: 0.5, "b": 0.1}, "x", TABLE, reference=0.2)
    sections = [
        Section("one", ODD, [ODD], [figure], [TABLE]),
        origins_section(0, Facts(), summary),
    ]
    text = render(ODD, ODD, [Headline(ODD, ODD, ODD)], sections, ODD)
    return text, Page(text)


class TestClicks:
    def test_low_confidence_is_the_lowest_tenth(self, summary, table):
        confidence = table[1]["confidence"].to_numpy()
        assert summary.clicks == len(confidence)
        assert summary.threshold == pytest.approx(np.quantile(confidence, 0.1))
        assert summary.everyone.low_share == np.mean(confidence <= summary.threshold)

    def test_groups_are_those_of_the_log_in_their_order(self, summary, table):
        assert [group.name for group in summary.groups] == ["1", "0"]
        clicks = table[1]
        chosen = np.array(clicks["group"].to_pylist()) == "1"
        confidence = clicks["confidence"].to_numpy()[chosen]
        (first, _) = summary.groups
        assert first.mean == pytest.approx(confidence.mean())
        assert first.quantiles == pytest.approx(
            np.quantile(confidence, [0.1, 0.25, 0.5, 0.75, 0.9])
        )
        counts, _ = np.histogram(confidence, bins=40, range=(0.0, 1.0))
        assert sum(first.counts) == len(confidence)
        np.testing.assert_allclose(first.counts, counts, atol=1)  # float32 on an edge

    def test_the_column_that_explains_confidence_comes_first(self, summary, table):
        assert summary.columns[0].name == "kind of"
        assert summary.columns[0].explained > 0.9
        worst = summary.columns[0].values[0]
        assert worst.value == ODD
        confidence = table[1]["confidence"].to_numpy()[::4]
        assert worst.clicks == len(confidence)
        assert worst.mean == pytest.approx(confidence.mean())
        assert worst.low_share == np.mean(confidence <= summary.threshold)

    def test_hours_are_those_of_the_logs_zone(self, summary):
        assert [int(hour.value) for hour in summary.hours] == [3, 15]
        assert summary.hours[0].low_share > summary.hours[1].low_share

    def test_examples_are_the_extremes_without_users(self, summary, table):
        confidence = np.sort(table[1]["confidence"].to_numpy())
        assert [e.confidence for e in summary.lowest] == pytest.approx(confidence[:10])
        assert [e.confidence for e in summary.highest] == pytest.approx(confidence[::-1][:10])
        assert "user_id" not in summary.example_columns
        assert summary.lowest[0].cells[-1] == ODD

    def test_satisfaction_by_tenths_of_signals_of_zeros_and_ones(self, summary):
        assert list(summary.satisfied) == ["long_view"]
        shares = [share for _, share in summary.satisfied["long_view"]]
        assert shares == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    def test_times_as_text(self, tmp_path):
        spec = odd_spec()
        columns = [
            c.model_copy(update={"type": "string"}) if c.name == "time_ms" else c
            for c in spec.columns
        ]
        path = tmp_path / "clicks.parquet"
        clicks = odd_clicks(path)
        times = ["2026-01-01T19:30:00", "2026-01-02T03:30:00+08:00"] * (len(clicks) // 2)
        import pyarrow.parquet as pq

        place = clicks.column_names.index("time_ms")
        pq.write_table(clicks.set_column(place, "time_ms", pa.array(times)), path)
        spec = spec.model_copy(update={"columns": tuple(columns)})
        found = summarize_clicks(path, spec, ["0", "1"])
        assert [hour.value for hour in found.hours] == ["3"]
        assert found.satisfied == {}

    def test_no_clicks(self, tmp_path):
        odd_clicks(tmp_path / "none.parquet", clicks=0)
        with pytest.raises(ValueError, match="holds no clicks"):
            summarize_clicks(tmp_path / "none.parquet", odd_spec(), ["0"])


def test_wilson_by_hand():
    """10 of 10: n / (n + z^2); nothing is known of nothing."""
    assert wilson_low(10, 10) == pytest.approx(10 / (10 + 1.959964**2))
    assert wilson_low(0, 10) == pytest.approx(0.0)
    assert wilson_low(0, 0) == 0.0
    assert wilson_low(5, 10) < wilson_low(50, 100) < 0.5


def test_explained_variance_by_definition():
    generator = np.random.default_rng(0)
    groups = generator.integers(5, size=1000)
    values = groups * 0.3 + generator.normal(size=1000)
    counts = np.bincount(groups)
    means = np.bincount(groups, values) / counts
    squares = np.sum((values - values.mean()) ** 2)
    within = np.sum((values - means[groups]) ** 2) / (1000 - 5)
    expected = 1 - within / (squares / 999)
    found = explained_variance(counts, means, values.mean(), squares)
    assert found == pytest.approx(expected)
    assert 0.05 < found < 0.3
    each = np.ones(10)
    assert explained_variance(each, np.arange(10.0), 4.5, 82.5) == 0.0
    assert explained_variance(counts, np.zeros(5), 0.0, 0.0) == 0.0


class TestFigures:
    def test_it_says_what_it_shows(self, figure):
        root = ET.fromstring(figure.svg)
        assert root.get("role") == "img"
        texts = {element.get("id"): element.text for element in root.iter()}
        labels = root.get("aria-labelledby").split()
        assert [texts[label] for label in labels] == ["Title & more", ODD]

    def test_names_are_text_as_they_are(self, figure):
        texts = [element.text for element in ET.fromstring(figure.svg).iter("text")]
        assert ODD in texts  # neither mathematics nor markup

    def test_its_colours_are_those_of_the_page(self, figure):
        assert re.findall(r"#[0-9a-fA-F]{6}", figure.svg) == []
        assert {"var(--ink)", "var(--grid)", "var(--series-1)", "var(--series-2)"} <= set(
            re.findall(r"var\(--[\w-]+\)", figure.svg)
        )
        style = pathlib.Path(charts.__file__).with_name("templates") / "report.css"
        known = set(re.findall(r"(--[\w-]+):", style.read_text(encoding="utf-8")))
        assert set(re.findall(r"var\((--[\w-]+)\)", figure.svg)) <= known

    def test_ids_are_its_own(self, figure):
        root = ET.fromstring(figure.svg)
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(set(ids)) == len(ids)
        assert all(i.startswith("f-") for i in ids)
        used = re.findall(r"url\(#([\w-]+)\)|href=\"#([\w-]+)\"", figure.svg)
        assert used
        assert {first or second for first, second in used} <= set(ids)

    def test_no_style_for_the_whole_page(self, figure):
        assert "<style" not in figure.svg

    @pytest.mark.parametrize("interval", [Interval(1e-4, -2e-4, 3e-4, 0.4), NOWHERE])
    def test_intervals(self, interval):
        rows = {"AUC": [interval, NOWHERE]}
        made = charts.intervals("g", "t", "a", rows, ("b", "c"), "x", TABLE, unit=1e-4)
        assert ET.fromstring(made.svg).tag == "svg"

    def test_a_cell_too_few(self):
        with pytest.raises(
            ValueError, match="'Numbers' does not fit. Received: 1 cells. Expected: 2"
        ):
            Table("Numbers", ("a", "b"), [("1",)])


def test_differences_are_told_in_their_unit():
    assert difference(Interval(0.00123, 0.0001, 0.002, 0.01)) == "+12.3*"
    assert difference(Interval(-0.00123, -0.01, 0.002, 0.5)) == "-12.3"
    assert ends(Interval(0.0, -0.0001, 0.00025, 0.5)) == "-1.0 to +2.5"
    assert difference(NOWHERE) == ends(NOWHERE) == "\u2013"


class TestPage:
    def test_data_stay_data(self, page):
        text, parsed = page
        assert parsed.all("script") == []
        assert "<script" not in text
        assert all(ODD in element.text for element in parsed.all("h1"))
        assert any(ODD in element.text for element in parsed.all("td") + parsed.all("th"))

    def test_it_needs_no_network(self, page):
        text, parsed = page
        for element in parsed.elements:
            for name in ("src", "href", "xlink:href", "data", "poster"):
                value = element.attributes.get(name)
                assert value is None or value.startswith("#"), (element.tag, value)
        assert "@import" not in text
        assert "http://" not in text and "https://" not in text

    def test_every_id_once_and_every_link_leads_somewhere(self, page):
        ids = [e.attributes["id"] for e in page[1].elements if "id" in e.attributes]
        assert len(set(ids)) == len(ids)
        links = [e.attributes["href"] for e in page[1].all("a")]
        assert {link.removeprefix("#") for link in links} <= set(ids)

    def test_every_figure_has_its_numbers(self, page):
        figures = page[1].all("figure")
        images = [e for e in page[1].all("svg") if e.attributes.get("role") == "img"]
        assert len(figures) == len(images) == len(page[1].all("details")) > 2
        heads = [e for e in page[1].all("th") if e.attributes.get("scope") == "col"]
        assert heads
        assert len(page[1].all("caption")) == len(page[1].all("table"))

    def test_names_of_sections_differ(self):
        with pytest.raises(ValueError, match="a name of its own"):
            render("t", "s", [], [Section("a", "A"), Section("a", "B")], "f")


def test_names_of_runs_are_as_short_as_can_be():
    paths = [pathlib.Path(p) for p in ("/x/plain", "/x/clsd")]
    assert short_names(paths) == ["plain", "clsd"]
    paths = [pathlib.Path(p) for p in ("/x/a/run", "/x/b/run")]
    assert short_names(paths) == ["a/run", "b/run"]


class TestComparison:
    def results(self) -> dict:
        interval = {"mean": 2e-4, "low": 1e-4, "high": 3e-4, "p": 0.01}
        nowhere = dict.fromkeys(("mean", "low", "high", "p"))
        contrasts = {
            "auc": {"over_seeds": interval, "over_users": interval, "p_adjusted": 0.02},
            "log_loss": {"over_seeds": interval, "over_users": nowhere, "p_adjusted": None},
        }
        common = {"world": "as it is", "split": "valid", "backbone": "mlp", "recovered": {}}
        means = {"auc": 0.7, "log_loss": 0.5}
        rows = [
            {**common, "arm": "plain", "means": means, "contrasts": {}},
            {**common, "arm": "clsd", "means": means, "contrasts": contrasts},
        ]
        return {"config": {"num_seeds": 3}, "metrics": {"summary": rows}}

    def test_stars_are_for_both_intervals(self):
        section = comparison_section(self.results())
        rows = section.tables[0].rows
        cells = {(row[1], row[2]): row[4:] for row in rows}
        assert cells["plain", "click AUC"] == ("\u2013",) * 4
        both = "+1.0 to +3.0"
        assert cells["clsd", "click AUC"] == ("+2.0*", both, both, "0.020")
        assert cells["clsd", "log loss"] == ("+2.0", both, "\u2013", "\u2013")
        assert len(section.figures) == 1

    def test_something_else_is_refused(self, tmp_path):
        path = tmp_path / "results.json"
        path.write_text(json.dumps({"metrics": {}}))
        with pytest.raises(ValueError, match="not the result of a comparison.*clsd-compare"):
            read_comparison(path)
        path.write_text(json.dumps(self.results()))
        assert read_comparison(tmp_path) == self.results()
