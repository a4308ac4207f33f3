"""Marks of single cases of a test."""

from __future__ import annotations

import pytest


def slow(*values: object):
    """A case that runs with the slow tests: others of its kind run with the quick ones."""
    return pytest.param(*values, marks=pytest.mark.slow)
