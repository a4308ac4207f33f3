"""What tests of reports share: a strict reader of the page, and clicks with odd names."""

from __future__ import annotations

import dataclasses
import html.parser
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clsd_tf.spec import parse_spec

ODD = '<script>x()</script> & $\\frac12$ "猫"'
SPEC = """
name = "odd"
[split]
by = "time"
utc_offset = 8.0
[columns]
user_id = { role = "user", type = "int", encoding = "vocabulary" }
item_id = { role = "item", type = "string", encoding = "vocabulary" }
"kind of" = { type = "string", encoding = "vocabulary" }
segment = { role = "group", type = "int", encoding = "identity", num_values = 2 }
click = { role = "label", type = "int" }
time_ms = { role = "timestamp", type = "int" }
"""
_VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclasses.dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


class Page(html.parser.HTMLParser):
    """Elements of a page; fails where one is not closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, [element.tag for element in self._open]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]


def odd_clicks(path: pathlib.Path, clicks: int = 400) -> pa.Table:
    """Clicks whose confidence depends on `kind of`, in the columns of `clsd-score`."""
    generator = np.random.default_rng(0)
    bad = np.arange(clicks) % 4 == 0
    confidence = np.where(bad, 0.1, 0.8) + generator.uniform(-0.05, 0.05, clicks)
    hours = np.where(bad, 3, 15)  # in the log's zone, which is 8 hours ahead of UTC
    table = pa.table(
        {
            "_row": np.arange(clicks),
            "user_id": np.arange(clicks) % 50,
            "item_id": [f"item {n % 5}" for n in range(clicks)],
            "time_ms": ((24 + hours - 8) * 3600 + np.arange(clicks)) * 1000,
            "_day": ["2026-01-02"] * clicks,
            "group": [str(n % 2) for n in range(clicks)],
            "teacher_logit": np.log(confidence / (1 - confidence)).astype(np.float32),
            "global_confidence": confidence.astype(np.float32),
            "local_confidence": confidence.astype(np.float32),
            "confidence": confidence.astype(np.float32),
            "label_used": confidence.astype(np.float32),
            "weight_used": np.ones(clicks, np.float32),
            "kind of": [ODD if is_bad else "fine" for is_bad in bad],
        }
    )
    pq.write_table(table, path)
    return table


def odd_spec():
    return parse_spec(SPEC, source="odd.toml")
