"""A group's noise rate taken out of predicted rates."""

from __future__ import annotations

import numpy as np
import pytest

from clsd_tf.group_offset import remove_group_offset


def test_by_hand():
    # (.6 - .2) / .8 and (.5 - .5) / .5; below the rate there is no interest left.
    freed = remove_group_offset([0.6, 0.6, 0.5, 0.1, 1.0], [0, 1, 2, 1, 2], [0.0, 0.2, 0.5])
    np.testing.assert_allclose(freed, [0.6, 0.5, 0.0, 0.0, 1.0])


def test_undoes_the_noise_model():
    rng = np.random.default_rng(0)
    interest, groups = rng.random(100), rng.integers(0, 4, 100)
    rates = np.array([0.05, 0.1, 0.2, 0.35])
    clicked = rates[groups] + (1 - rates[groups]) * interest
    np.testing.assert_allclose(remove_group_offset(clicked, groups, rates), interest, atol=1e-12)


def test_keeps_the_order_within_a_group():
    probabilities = np.linspace(0.3, 0.9, 50)
    freed = remove_group_offset(probabilities, np.zeros(50, int), [0.2])
    assert np.all(np.diff(freed) > 0)


def test_no_rows():
    assert remove_group_offset([], np.zeros(0, int), [0.1]).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [0], [1.0]), r"`rates` must be in \[0, 1\).*1\.0"),
        (([0.5], [0], [-0.1]), r"`rates` must be in \[0, 1\)"),
        (([0.5], [2], [0.1, 0.1]), r"`groups` must be in \[0, 2\).*2 to 2"),
        (([0.5, 0.5], [0], [0.1]), r"must be \[rows\].*\(2,\), \(1,\), \(1,\)"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        remove_group_offset(*arguments)
