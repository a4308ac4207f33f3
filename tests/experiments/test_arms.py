"""Arms and the options they take."""

from __future__ import annotations

import inspect

import pytest

from clsd_tf.denoising import OBJECTIVES
from experiments.arms import ARMS, get_arm


def test_flags_override_the_options_of_an_arm():
    given = {"confidence": "affine", "student": None, "alpha": 1.0}
    assert get_arm("clsd").with_options(given) == {
        "confidence": "affine",
        "student": "soft",
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
    with pytest.raises(ValueError, match=f"would do nothing .* Received: {unused}. Expected"):
        get_arm(method).with_options(given)


def test_unknown_methods_are_answered_with_the_known():
    with pytest.raises(ValueError, match="'sdcl'.*plain, clsd, distillation"):
        get_arm("sdcl")


def test_all_arms_have_a_summary():
    assert all(arm.summary for arm in ARMS.values())


def test_arms_agree_with_their_objectives():
    """So that `--help` is right without TensorFlow."""
    found = set()
    for name, arm in ARMS.items():
        if arm.objective is None:
            assert not arm.reads_satisfaction, name
            continue
        objective = OBJECTIVES[arm.objective]
        found.add(arm.objective)
        parameters = inspect.signature(objective).parameters
        assert set(arm.method_options) == parameters.keys() - {"features", "kwargs"}, name
        assert arm.needs_teacher == objective.needs_teacher, name
        assert ("confidence" in arm.options) == objective.needs_confidence, name
    assert found == set(OBJECTIVES)


def test_only_the_oracle_reads_satisfaction():
    assert [name for name, arm in ARMS.items() if arm.reads_satisfaction] == ["oracle"]


def test_method_options_are_those_of_the_arm():
    assert get_arm("t_ce").with_method_options({"drop_rate": 0.2}) == {"drop_rate": 0.2}
    with pytest.raises(ValueError, match="does not have.*beta.*drop_rate, ramp_steps"):
        get_arm("t_ce").with_method_options({"beta": 0.5})
    with pytest.raises(ValueError, match="does not have.*Received: beta. Expected: none"):
        get_arm("plain").with_method_options({"beta": 0.5})
