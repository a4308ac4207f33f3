"""The page: sections in, one HTML file out that needs nothing else.

Everything is escaped but the figures, whose markup comes from an XML serializer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jinja2
from markupsafe import Markup

from experiments.reporting.blocks import Section


@dataclasses.dataclass(frozen=True)
class Headline:
    """A number to begin with.

    Attributes:
      label: what it is.
      value: as text.
      note: what it is compared with.
    """

    label: str
    value: str
    note: str = ""


def render(
    title: str,
    subtitle: str,
    headlines: Sequence[Headline],
    sections: Sequence[Section],
    footer: str,
) -> str:
    """The page as HTML.

    Raises:
      ValueError: two sections or figures have one name.
    """
    names = [section.name for section in sections]
    if len(set(names)) < len(names):
        raise ValueError(f"Each section has a name of its own. Received: {', '.join(names)}.")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["svg"] = Markup
    style = environment.loader.get_source(environment, "report.css")[0]
    return environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        headlines=headlines,
        sections=sections,
        footer=footer,
        style=Markup(style),
    )
