"""A report of finished runs, from their files to the browser."""

from __future__ import annotations

import datetime
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest

from clsd_tf import Encoder
from experiments.click_confidences import confidences_path
from experiments.reporting.clicks import summarize_clicks
from experiments.reporting.contents import build_report
from experiments.reporting.judging import click_satisfaction
from experiments.reporting.runs import read_runs
from tests.experiments.report_helpers import Element, Page

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def built(plain, clsd, prepared):
    runs = read_runs([str(plain.directory), str(clsd.directory)])
    when = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    return build_report(runs, str(prepared), "valid", draws=20, written=when)


@pytest.fixture(scope="module")
def page(built):
    return Page(built.page)


def table_of(page: Page, caption: str) -> Element:
    return next(t for t in page.all("table") if t.text.strip().split("\n")[0] == caption)


def test_its_sections(page):
    names = [e.attributes["id"] for e in page.all("section")]
    assert names == [
        *("data", "metrics", "calibration", "confidence-1", "origins-1", "curves", "cost"),
    ]
    assert "2026-01-02 03:04 UTC" in page.all("header")[0].text


def test_metrics_are_those_of_the_runs(built, page, plain, clsd):
    runs = built.metrics["runs"]
    assert list(runs) == ["plain", "clsd"]
    assert runs["plain"]["against_plain"] == {}
    difference = runs["clsd"]["click"]["auc"] - runs["plain"]["click"]["auc"]
    interval = runs["clsd"]["against_plain"]["auc"]
    assert interval["mean"] == pytest.approx(difference)
    assert interval["low"] <= interval["high"]
    shown = table_of(page, "Metrics of clicks")
    for run in (plain, clsd):
        assert f"{runs[run.directory.name]['click']['auc']:.4f}" in shown.text
    assert set(runs["clsd"]["auc_against_plain_by_group"]) <= set(runs["clsd"]["groups"])


def test_confidence_is_summed_up_of_all_training_clicks(page, clsd, prepared):
    path = confidences_path(clsd.directory / "scores" / "report", "train")
    encoder = Encoder.load(clsd.encoding)
    summary = summarize_clicks(path, encoder.spec, encoder.group_names())
    statistics = json.loads((prepared / "stats.json").read_text())
    assert summary.clicks == statistics["splits"]["train"]["clicks"]
    assert f"{summary.clicks:,} training clicks" in page.all("main")[0].text
    assert [g.name for g in summary.groups] == encoder.group_names()
    columns = {column.name for column in summary.columns}
    assert {"item_id", "item_category", "scene", "_day"} <= columns


def test_satisfaction_by_tenths_is_that_of_the_clicks(page, clsd, prepared):
    path = confidences_path(clsd.directory / "scores" / "report", "train")
    clicks = pq.read_table(path, columns=["_row", "confidence"])
    signals = click_satisfaction(prepared, Encoder.load(clsd.encoding), "train")
    np.testing.assert_array_equal(clicks["_row"], signals["_row"])
    confidence, satisfied = (
        column.to_numpy().astype(np.float64)
        for column in (clicks["confidence"], signals["long_view"])
    )
    order = np.lexsort((clicks["_row"].to_numpy(), confidence))
    expected = [
        f"long_view{place}{confidence[tenth].mean():.3f}{satisfied[tenth].mean():.1%}"
        for place, tenth in enumerate(np.array_split(order, 10), start=1)
    ]
    text = table_of(page, "Satisfaction by tenths of confidence").text
    assert all(row in text for row in expected)


def test_runs_of_other_rows_are_refused(plain, clsd, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(plain.directory, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "data": "of other rows"}))
    with pytest.raises(ValueError, match="A report is about one data set.*hold other rows"):
        read_runs([str(clsd.directory), str(other)])
    with pytest.raises(ValueError, match="Each run is given once"):
        read_runs([str(clsd.directory), f"{clsd.directory}/."])
    with pytest.raises(ValueError, match="Not a run"):
        read_runs([str(tmp_path)])


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"There is no browser: none of {', '.join(BROWSERS)} is on PATH.")
    return found


def browse(path: pathlib.Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [browser(), "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={path.parent / 'profile'}", "--enable-logging=stderr", *flags]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


# Loads the page in a frame of some width and says what is wider than it.
MEASURE = """<!DOCTYPE html><html><body><pre id="out">nothing</pre>
<iframe id="frame" src="report.html" style="border:0;width:WIDTHpx;height:2000px"></iframe>
<script>
document.getElementById("frame").onload = event => {
  const page = event.target.contentDocument.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    e => e.getBoundingClientRect().right > WIDTH + 0.5 && !e.closest(".wide"));
  const pictures = [...page.querySelectorAll("svg[role=img]")];
  document.getElementById("out").textContent = JSON.stringify({
    width: page.scrollWidth,
    wide: wide.map(e => e.tagName),
    pictures: pictures.length,
    empty: pictures.filter(e => e.getBoundingClientRect().height < 50).length,
    named: pictures.filter(e => e.ariaLabelledByElements?.length === 2).length,
  });
};
</script></body></html>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1600])
def test_in_a_browser(built, tmp_path, width):
    built.write(tmp_path / "report.html")
    outer = tmp_path / "measure.html"
    outer.write_text(MEASURE.replace("WIDTH", str(width)))
    done = browse(
        outer,
        "--allow-file-access-from-files",
        f"--window-size={width + 50},2100",
        "--virtual-time-budget=5000",
        "--dump-dom",
    )
    found = json.loads(re.search(r'<pre id="out">(.*?)</pre>', done.stdout)[1])
    assert found["width"] <= width
    assert found["wide"] == []
    assert found["empty"] == 0
    assert found["named"] == found["pictures"] == built.page.count("<figure")
    assert "CONSOLE" not in done.stderr, done.stderr
