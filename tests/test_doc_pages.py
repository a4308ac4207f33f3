"""The Python code of the documentation runs, from the top of a page to its bottom."""

from __future__ import annotations

import pathlib
import re

import pytest

from clsd_tf import backbones

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
PAGES = ["keras_models", "callbacks", "retrieval", "multi_label"]


def python_of(page: str) -> str:
    """The Python blocks of a page as one program."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks, f"There is no Python in {page}.md."
    return "\n".join(blocks)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_of(page), f"docs/{page}.md", "exec"), {"__name__": page})


def test_the_new_backbone_of_the_docs_is_one(monkeypatch):
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    namespace = {"__name__": "product"}
    exec(compile(python_of("backbones"), "docs/backbones.md", "exec"), namespace)
    from clsd_tf.features import ModelFeature

    features = [
        ModelFeature(role, "categorical", cardinality=9, dim=4, table=role, role=role)
        for role in ("user", "item")
    ]
    backbone = backbones.get_backbone("product", features, units=[3])
    assert backbone({"user": [1, 2], "item": [3, 4]}).shape == (2,)
    again = type(backbone).from_config(backbone.get_config())
    assert again.units == (3,)


def test_every_page_with_python_is_run():
    with_python = {p.stem for p in DOCS.glob("*.md") if "```python" in p.read_text("utf-8")}
    # What `confidences` reads takes a trained run: tests/experiments/test_click_confidences.py.
    assert with_python <= {*PAGES, "backbones", "confidences"}
