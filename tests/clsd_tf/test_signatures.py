"""Signatures have the shapes that TensorFlow Serving asks for, and all give the same scores."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.encoding import INT_MISSING
from clsd_tf.entities import described_entity
from clsd_tf.features import ClickLogSpec, ColumnSpec
from clsd_tf.requests import to_candidates, to_dense, to_encoded, to_example
from clsd_tf.sample_rows import sample_request, sample_rows
from clsd_tf.signatures import build_signatures
from clsd_tf.spec import parse_spec
from tests.shop import (
    CANDIDATES,
    ONCE,
    REQUESTS,
    SPEC,
    example,
    features_of,
    graph_of,
    serialized,
    tensors,
)


def outputs(signature, **inputs) -> np.ndarray:
    return signature(**inputs)["outputs"].numpy()


@pytest.fixture(scope="module")
def rows(shop_encoder):
    return [*REQUESTS, *sample_rows(shop_encoder, 30)]


@pytest.fixture(scope="module")
def expected(shop_model, shop_encoder, rows) -> np.ndarray:
    scores = tf.sigmoid(shop_model.backbone(features_of(shop_encoder, rows))).numpy()
    assert np.ptp(scores) > 0.05
    return scores


class TestScores:
    def test_of_examples(self, shop_served, rows, expected):
        received = outputs(shop_served["serving_default"], inputs=serialized(rows))
        np.testing.assert_allclose(received, expected, atol=1e-6)

    def test_of_classes(self, shop_served, rows, expected):
        received = shop_served["classify"](inputs=serialized(rows))
        np.testing.assert_allclose(received["scores"][:, 1], expected, atol=1e-6)
        np.testing.assert_allclose(received["scores"][:, 0], 1 - expected, atol=1e-6)
        assert {tuple(classes) for classes in received["classes"].numpy()} == {
            (b"no_click", b"click")
        }

    def test_of_dense_raw_features(self, shop_served, shop_encoder, rows, expected):
        inputs = tensors(to_dense(shop_encoder.spec, rows))
        received = outputs(shop_served["predict_features"], **inputs)
        np.testing.assert_allclose(received, expected, atol=1e-6)

    def test_of_encoded_features(self, shop_served, shop_encoder, rows, expected):
        inputs = tensors(to_encoded(shop_encoder, rows))
        received = outputs(shop_served["predict_encoded"], **inputs)
        np.testing.assert_allclose(received, expected, atol=1e-6)

    @pytest.mark.parametrize("seed", range(3))
    def test_of_one_user_and_many_candidates(self, shop_served, shop_encoder, seed):
        once, candidates = sample_request(shop_encoder, 5, seed)
        spec, default = shop_encoder.spec, shop_served["serving_default"]
        inputs = tensors(to_candidates(spec, once, candidates))
        received = outputs(shop_served["predict_candidates"], **inputs)
        merged = serialized([{**once, **candidate} for candidate in candidates])
        np.testing.assert_allclose(received, [outputs(default, inputs=merged)], atol=1e-6)

    def test_of_several_users_with_candidates_of_their_own(self, shop_served, shop_encoder):
        requests = [sample_request(shop_encoder, 4, seed) for seed in (10, 11, 12)]
        each = [to_candidates(shop_encoder.spec, *request) for request in requests]
        together = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        signature = shop_served["predict_candidates"]
        received = outputs(signature, **tensors(together))
        assert received.shape == (3, 4)
        alone = np.concatenate([outputs(signature, **tensors(one)) for one in each])
        np.testing.assert_allclose(received, alone, atol=1e-6)

    def test_masked_elements_may_stand_anywhere(self, shop_served, shop_encoder):
        inputs = to_dense(shop_encoder.spec, [REQUESTS[0]])
        spread = dict(inputs)
        spread["click_history"] = np.array([["pear", "any", "kiwi"]], object)
        spread["click_history_mask"] = np.array([[True, False, True]])
        signature = shop_served["predict_features"]
        assert outputs(signature, **tensors(spread)) == outputs(signature, **tensors(inputs))


class TestShapes:
    def test_of_regress(self, shop_served):
        signature = shop_served["serving_default"]
        assert signature.structured_input_signature[1] == {
            "inputs": tf.TensorSpec([None], tf.string, name="inputs")
        }
        assert {k: (v.shape.rank, v.dtype) for k, v in signature.structured_outputs.items()} == {
            "outputs": (1, tf.float32)
        }

    def test_of_classify(self, shop_served):
        signature = shop_served["classify"]
        assert set(signature.structured_input_signature[1]) == {"inputs"}
        assert {k: (v.shape.rank, v.dtype) for k, v in signature.structured_outputs.items()} == {
            "classes": (2, tf.string),
            "scores": (2, tf.float32),
        }

    def test_of_dense_features(self, shop_served):
        inputs = shop_served["predict_features"].structured_input_signature[1]
        assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in inputs.items()} == {
            "user_id": ([None], tf.int64),
            "item_id": ([None], tf.string),
            "scene": ([None], tf.int64),
            "age": ([None], tf.float32),
            "price": ([None], tf.float32),
            "item_tags": ([None, 2], tf.int64),
            "item_tags_mask": ([None, 2], tf.bool),
            "click_history": ([None, 3], tf.string),
            "click_history_mask": ([None, 3], tf.bool),
        }

    def test_of_candidates(self, shop_served):
        inputs = shop_served["predict_candidates"].structured_input_signature[1]
        by_candidate = {
            name for name, spec in inputs.items() if spec.shape.as_list()[1:2] == [None]
        }
        assert by_candidate == {"item_id", "price", "item_tags", "item_tags_mask"}

    def test_examples_are_one_tensor_for_all(self, shop_export):
        graph = graph_of(shop_export)
        names = {
            graph.signature_def[name].inputs["inputs"].name
            for name in ("serving_default", "classify")
        }
        assert names == {"serving_default_inputs:0"}
        assert "classify_inputs" not in {node.name for node in graph.graph_def.node}

    def test_nothing_else_is_served(self, shop_served):
        assert set(shop_served) == {
            "serving_default",
            "classify",
            "predict_features",
            "predict_candidates",
            "predict_encoded",
        }


class TestBadRequests:
    """What docs/serving.md says of them."""

    def test_what_is_left_out_is_missing(self, shop_served, shop_encoder):
        nothing, explicit = tf.constant([b""]), to_dense(shop_encoder.spec, [{}])
        assert explicit["user_id"] == INT_MISSING
        received = outputs(shop_served["serving_default"], inputs=nothing)
        assert received == outputs(shop_served["predict_features"], **tensors(explicit))
        assert 0 < received < 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_no_number_is_missing(self, shop_served, value):
        default = shop_served["serving_default"]
        row = {"user_id": 7, "item_id": "fig"}
        with_value = serialized([{**row, "price": value, "age": value}])
        assert outputs(default, inputs=with_value) == outputs(default, inputs=serialized([row]))

    def test_unknown_ids_share_one(self, shop_served):
        scores = outputs(
            shop_served["serving_default"], inputs=serialized([{"user_id": 555}, {"user_id": 556}])
        )
        assert scores[0] == scores[1]

    def test_histories_that_are_too_long_keep_their_end(self, shop_served):
        rows = [{"click_history": ["kiwi", "fig", "pear", "fig"]}]
        rows.append({"click_history": ["fig", "pear", "fig"]})
        rows.append({"click_history": ["kiwi", "fig", "pear"]})
        scores = outputs(shop_served["serving_default"], inputs=serialized(rows))
        assert scores[0] == scores[1] != scores[2]

    def test_no_row_is_no_answer(self, shop_served, shop_encoder):
        empty = tf.constant([], tf.string)
        assert outputs(shop_served["serving_default"], inputs=empty).shape == (0,)
        assert shop_served["classify"](inputs=empty)["scores"].shape == (0, 2)
        dense = tensors(to_dense(shop_encoder.spec, []))
        assert outputs(shop_served["predict_features"], **dense).shape == (0,)
        none = {
            n: v[:, :0] if n.startswith("item") or n == "price" else v
            for n, v in to_candidates(shop_encoder.spec, ONCE, CANDIDATES).items()
        }
        assert outputs(shop_served["predict_candidates"], **tensors(none)).shape == (1, 0)

    def test_ten_thousand_rows(self, shop_served):
        one = serialized(REQUESTS[:1])
        many = outputs(shop_served["serving_default"], inputs=tf.repeat(one, 10_000))
        np.testing.assert_allclose(
            many, np.repeat(outputs(shop_served["serving_default"], inputs=one), 10_000), atol=1e-6
        )

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"user_id": "7"}, "Key: user_id, Index: 0.  Data types don't match"),
            ({"item_id": 7}, "Key: item_id, Index: 0.  Data types don't match"),
            ({"price": 3}, "Key: price, Index: 0.  Data types don't match"),
            ({"age": [1.0, 2.0]}, "Key: age"),
            ({"click_history": [1, 2]}, "click_history"),
        ],
    )
    def test_another_type_is_an_invalid_argument(self, shop_served, row, message):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            shop_served["serving_default"](inputs=serialized([row]))

    def test_so_is_what_is_no_example(self, shop_served):
        with pytest.raises(tf.errors.InvalidArgumentError, match="[Cc]ould not parse"):
            shop_served["serving_default"](inputs=tf.constant([b"\x07nonsense"]))

    def test_so_are_columns_of_different_lengths(self, shop_served, shop_encoder):
        inputs = to_dense(shop_encoder.spec, REQUESTS)
        inputs["age"] = inputs["age"][:3]
        with pytest.raises(tf.errors.InvalidArgumentError):
            shop_served["predict_features"](**tensors(inputs))
        inputs = to_candidates(shop_encoder.spec, ONCE, CANDIDATES)
        inputs["user_id"] = np.repeat(inputs["user_id"], 2)
        with pytest.raises(tf.errors.InvalidArgumentError):
            shop_served["predict_candidates"](**tensors(inputs))

    def test_so_are_columns_of_other_candidates(self, shop_served, shop_encoder):
        spec = shop_encoder.spec
        requests = [sample_request(shop_encoder, 3, seed) for seed in (1, 2)]
        each = [to_candidates(spec, *request) for request in requests]
        together = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        # As many values, of other requests: without a check they would be taken in their order.
        turned = {**together, "price": together["price"].reshape(3, 2)}
        with pytest.raises(tf.errors.InvalidArgumentError, match="alike. Received, for item_id, "):
            shop_served["predict_candidates"](**tensors(turned))
        turned = {**together, spec.item.name: together[spec.item.name].reshape(3, 2)}
        with pytest.raises(tf.errors.InvalidArgumentError):  # the user's columns may tell first
            shop_served["predict_candidates"](**tensors(turned))


class TestRequests:
    def test_examples_are_those_made_by_hand(self, shop_encoder):
        for row in [*REQUESTS, ONCE]:
            shown = {name: value for name, value in row.items() if name != "segment"}
            assert to_example(shop_encoder.spec, row) == example(shown)

    def test_the_group_is_added_on_request(self, shop_encoder):
        group = shop_encoder.spec.with_role("group")
        assert to_example(shop_encoder.spec, ONCE, group) == example(ONCE)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"user_id": "7"}, "'user_id' holds values of type int. Received: '7'"),
            ({"user_id": True}, "'user_id' holds values of type int. Received: True"),
            ({"item_id": 7}, "'item_id' holds values of type string. Received: 7"),
            ({"age": [1.0, 2.0]}, "'age' holds one value. Received: \\[1.0, 2.0\\]"),
        ],
    )
    def test_other_types_are_refused(self, shop_encoder, row, message):
        with pytest.raises(ValueError, match=message):
            to_example(shop_encoder.spec, row)

    def test_sample_rows_know_values_unknown_ones_and_missing_ones(self, shop_encoder):
        rows = sample_rows(shop_encoder, 200, seed=3)
        assert rows == sample_rows(shop_encoder, 200, seed=3)
        ids = [row.get("user_id") for row in rows]
        assert {7, 9, None} < set(ids)
        assert 120 < sum(user in (7, 9) for user in ids) < 190
        assert {len(row["click_history"]) for row in rows} == {0, 1, 2, 3}
        assert any(age < 18 for age in (row.get("age", 99) for row in rows))


class TestEntities:
    def of(self, text: str) -> dict[str, str]:
        spec = parse_spec(text, source="spec")
        return {c.name: described_entity(spec, c) for c in spec.model_columns}

    def test_follow_from_role_table_and_name(self):
        extra = (
            'brand = { table = "goods", type = "string", encoding = "vocabulary" }\n'
            'city = { table = "people", type = "string", encoding = "vocabulary" }\n'
            'user_level = { type = "int", encoding = "identity", num_values = 4 }\n'
            'weather = { table = "days", type = "string", encoding = "vocabulary" }\n'
            'day = { type = "string", encoding = "vocabulary" }\n'
        )
        tables = (
            '[tables.goods]\nfile = "goods.csv"\nkey = "id"\nlog_key = "item_id"\n'
            '[tables.people]\nfile = "people.csv"\nkey = "user_id"\n'
            '[tables.days]\nfile = "days.csv"\nkey = "day"\n'
        )
        assert self.of(SPEC + extra + tables) == {
            "user_id": "user",
            "item_id": "item",
            "scene": "request",
            "age": "request",
            "price": "item",
            "item_tags": "item",
            "brand": "item",
            "city": "user",
            "user_level": "user",
            "weather": "request",
            "day": "request",
            "click_history": "user",
        }

    def test_a_list_must_not_share_the_name_of_its_mask(self, shop_model, shop_encoder):
        class Clash:
            spec = ClickLogSpec(
                name="clash",
                columns=(
                    ColumnSpec(name="tags", type="int", encoding="hash", max_length=2),
                    ColumnSpec(name="tags_mask", type="int", encoding="hash"),
                ),
            )

        with pytest.raises(ValueError, match="mask of list 'tags' under the name 'tags_mask'"):
            build_signatures(shop_model.backbone, Clash())
