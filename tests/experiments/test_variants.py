"""Variants of an arm, as they are named on the command line."""

from __future__ import annotations

import pytest

from experiments.arms import ARMS
from experiments.runs import TrainConfig
from experiments.variants import parse_variant


def config_of(arm: str) -> TrainConfig:
    return TrainConfig("prepared", "abc", method=arm, options=ARMS[arm].with_options({}))


@pytest.mark.parametrize("arm", list(ARMS))
def test_an_arm_is_a_variant_of_itself(arm):
    variant = parse_variant(arm)
    assert variant.entry is ARMS[arm]
    assert variant.apply(config_of(arm)) == config_of(arm)


def test_options_go_where_they_belong():
    text = "clsd:student=weight:generations=2:confidence_options.relative=false:distillation=0.5"
    changed = parse_variant(text).apply(config_of("clsd"))
    assert (changed.options["student"], changed.options["distillation"]) == ("weight", 0.5)
    assert changed.generations == 2
    assert changed.confidence_options == {"relative": False}
    slower = parse_variant("plain:learning_rate=.0003").apply(config_of("plain"))
    assert slower.learning_rate == 3e-4
    assert parse_variant("t_ce:drop_rate=0.2").apply(config_of("t_ce")).method_options == {
        "drop_rate": 0.2
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clsd:student", "'student'"),
        ("clsd:stutent=soft", "'stutent=soft'"),
        ("clsd:seed=3", "'seed=3'"),  # the comparison's own
        ("plain:confidence_options.tail=0.02", "confidence_options.tail"),
        ("plain:teacher=ema", "'teacher=ema'"),
        ("clsd:student=soft:student=weight", "'student=weight'"),
        ("clds:student=soft", "Unknown method"),
        ("plain:learning_rate=fast", "a value of type float"),
        ("clsd:generations=true", "a value of type int"),
    ],
)
def test_what_an_arm_does_not_have_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        parse_variant(text)
