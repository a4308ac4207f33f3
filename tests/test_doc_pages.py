"""The Python code of the documentation runs, from the top of a page to its bottom."""

from __future__ import annotations

import pytest

from clsd_tf import backbones, confidence
from tests.doc_blocks import DOCS, PAGES, python_of

# Pages whose code needs more than itself, and where it runs.
ELSEWHERE = {
    "README.md": "needs a prepared log: tests/experiments/test_doc_walk.py",
    "confidences.md": "needs a trained run: tests/experiments/test_click_confidences.py",
    "backbones.md": "a file to be added: below",
}
WITH_PYTHON = [page for page in PAGES if python_of(page)]


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What pages register is forgotten."""
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    known = confidence.CONFIDENCE_FUNCTIONS
    before = set(known)
    yield
    for name in set(known) - before:
        del known[name]


@pytest.mark.parametrize(
    "page", [p for p in WITH_PYTHON if p.name not in ELSEWHERE], ids=lambda page: page.stem
)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(python_of(page), f"<{page.stem}>", "exec"), {"__name__": page.stem})


def test_the_new_backbone_of_the_docs_is_one():
    namespace = {"__name__": "product"}
    exec(compile(python_of(DOCS / "backbones.md"), "docs/backbones.md", "exec"), namespace)
    from clsd_tf.features import ModelFeature

    features = [
        ModelFeature(role, "categorical", cardinality=9, dim=4, table=role, role=role)
        for role in ("user", "item")
    ]
    backbone = backbones.get_backbone("product", features, units=[3])
    assert backbone({"user": [1, 2], "item": [3, 4]}).shape == (2,)
    again = type(backbone).from_config(backbone.get_config())
    assert again.units == (3,)


def test_nothing_is_listed_in_vain():
    assert set(ELSEWHERE) <= {page.name for page in WITH_PYTHON}
