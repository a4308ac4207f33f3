"""Figures of matplotlib as SVG that belongs to a page: its colours, readable by everyone.

Colours are drawn by name and become variables of the page's style sheet, which knows light, dark
and print. Text stays text. The element says by itself what it shows (`role="img"`).
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import matplotlib
from matplotlib.figure import Figure

# Drawn as -> variable of the style sheet. Okabe and Ito's palette, which colour-blind readers tell
# apart; marks and dashes differ as well, for print in grey.
INK, GRID, MUTED = "#101010", "#e1e1e1", "#717171"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6b00", "#5b4fc7")
_VARIABLES = {INK: "ink", GRID: "grid", MUTED: "muted"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)
}
_STYLE = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "clsd_tf",
}
_PIXELS_PER_INCH = 96
_COLOUR = re.compile("|".join(_VARIABLES), re.IGNORECASE)


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure in the report's style.

    Args:
      width: in inches.
      height: in inches.
    """
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def width_of(figure: Figure) -> int:
    """Width of a figure in CSS pixels."""
    return round(figure.get_figwidth() * _PIXELS_PER_INCH)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The markup of a figure.

    Args:
      figure: made inside of `drawing`.
      name: starts the ids of its elements: a word that no other figure of the page has.
      title: of the figure.
      description: what is to be seen.
    """
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has glyphs that matplotlib's font lacks, and draws the text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        _adapt(element, name)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in ("style", "metadata")]:
            parent.remove(child)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, id=f"{name}-{tag}")
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, name: str) -> None:
    """Takes namespaces away, makes ids unique, and colours those of the page."""
    element.tag = element.tag.rpartition("}")[2]
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        key = key.rpartition("}")[2]
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href":
            value = value.replace("#", f"#{name}-")
        else:
            value = value.replace("url(#", f"url(#{name}-")
            value = _COLOUR.sub(lambda found: f"var(--{_VARIABLES[found[0].lower()]})", value)
        element.set(key, value)
