"""Arms and the options they take."""

from __future__ import annotations

import pytest

from experiments.arms import ARMS, get_arm


def test_flags_override_the_options_of_an_arm():
    given = {"confidence": "affine", "student": None, "alpha": 1.0}
    assert get_arm("clsd").with_options(given) == {
        "confidence": "affine",
        "student": "weight",
        "alpha": 1.0,
        "distillation": 0.0,
        "temperature": 1.0,
    }


@pytest.mark.parametrize(
    ("method", "given", "unused"),
    [
        ("plain", {"confidence": "global"}, "--confidence"),
        ("plain", {"distillation": 0.0}, "--distillation"),
        ("distillation", {"student": "soft", "alpha": 0.1}, "--alpha, --student"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(method, given, unused):
    with pytest.raises(ValueError, match=f"^{unused} would do nothing here"):
        get_arm(method).with_options(given)


def test_unknown_methods_are_answered_with_the_known():
    with pytest.raises(ValueError, match="'sdcl'.*plain, clsd, distillation"):
        get_arm("sdcl")


def test_all_arms_have_a_summary_and_only_plain_needs_no_teacher():
    assert all(arm.summary for arm in ARMS.values())
    assert [name for name, arm in ARMS.items() if not arm.needs_teacher] == ["plain"]
