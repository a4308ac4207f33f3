"""What is made of scores, by hand and against the metrics of the library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clsd_tf import Encoder, metrics
from data_pipeline.reader import make_dataset
from experiments.evaluation import ScoredSplit, judge, judge_confidence, score_split
from experiments.models import load_model


def scored(**changes) -> ScoredSplit:
    columns = {
        "scores": np.array([0.9, 0.8, 0.3, 0.1, 0.6]),
        "labels": np.array([1.0, 0.0, 1.0, 0.0, 1.0]),
        "users": np.array([1, 1, 1, 2, 2]),
        "groups": np.array([0, 0, 0, 1, 1]),
        "rows": np.arange(5),
        "satisfaction": {
            "long_view": np.array([1.0, 0.0, 0.0, 0.0, np.nan]),
            "play_time_ms": np.array([9000.0, 0.0, 700.0, 0.0, 1200.0]),
        },
    }
    return ScoredSplit(**{**columns, **changes})


def test_golden_values():
    judged = judge(scored(), ["new", "old"])
    click = judged["click"]
    assert click["rows"] == 5
    assert click["click_rate"] == pytest.approx(0.6)
    # Of 3 * 2 pairs of click and non-click all but (.3, .8) and (.6, .8) are in order.
    assert click["auc"] == pytest.approx(4 / 6)
    # User 1 has 1 of 2 pairs over 3 impressions, user 2 has 1 of 1 over 2.
    assert click["gauc"] == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)
    assert click["gauc_users"] == 2
    assert click["predicted_over_observed"] == pytest.approx(2.7 / 3)
    assert click["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.2, 0.3, 0.9, 0.6])))
    assert judged["groups"]["new"]["auc"] == pytest.approx(0.5)
    assert judged["groups"]["old"]["auc"] == pytest.approx(1.0)


def test_satisfaction_is_judged_where_it_is_known_and_of_zeros_and_ones():
    judged = judge(scored(), ["new", "old"])["satisfaction"]
    assert set(judged) == {"long_view"}
    assert judged["long_view"]["rate"] == pytest.approx(1 / 4)
    assert judged["long_view"]["auc"] == pytest.approx(1.0)
    # Among the clicks with a known signal: .9 is a long view, .3 is none.
    assert judged["long_view"]["rate_among_clicks"] == pytest.approx(0.5)
    assert judged["long_view"]["auc_among_clicks"] == pytest.approx(1.0)


def test_a_group_without_rows_has_no_figures():
    empty = judge(scored(groups=np.zeros(5, int)), ["all", "nobody"])["groups"]["nobody"]
    assert empty["rows"] == 0
    assert math.isnan(empty["auc"]) and math.isnan(empty["log_loss"])


def test_confidence_overall_within_groups_and_of_the_group_alone():
    # Group 0: clicks .9 and .6 were made, .7 is planted. Group 1: .5 was made, .2 and .8 planted.
    confidence = np.array([0.9, 0.6, 0.7, 0.5, 0.2, 0.8])
    groups = np.array([0, 0, 0, 1, 1, 1])
    was_made = np.array([True, True, False, True, False, False])
    judged = judge_confidence(confidence, groups, was_made)
    assert judged == pytest.approx(
        {
            "auc": 5 / 9,  # .9 beats .7 .2 .8; .6 and .5 beat .2
            "auc_within_groups": 0.5,  # 1/2 in both
            # Made: groups 0, 0, 1. Planted: 0, 1, 1. Two pairs of 0 over 1 for each 0, ties half.
            "auc_group_only": (2 * 2.5 + 1.0) / 9,
            "good_share": 0.5,
        }
    )


def test_scores_are_in_the_order_of_the_shards(plain, prepared):
    encoder = Encoder.load(plain.encoding)
    model = load_model(plain, plain.config())
    result = score_split(model, encoder, prepared, "test", batch_size=700)
    dataset = make_dataset(prepared, "test", 512, shuffle=False)
    np.testing.assert_allclose(result.scores, model.predict(dataset, verbose=0), atol=1e-6)
    labels = np.concatenate([label for _, label, _ in dataset])
    np.testing.assert_array_equal(result.labels, labels)
    assert len(np.unique(result.rows)) == len(result.rows) == len(labels)
    assert metrics.auc(result.labels, result.scores) > 0.55
    assert {"long_view", "like", "play_time_ms"} == set(result.satisfaction)
