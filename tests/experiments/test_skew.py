"""Raw rows through an export get the scores of training, or the difference is told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import Encoder
from clsd_tf.export import export_model
from clsd_tf.storage import TableStorage
from data_pipeline.raw_rows import raw_batches, rows_of
from experiments.evaluation import score_split
from experiments.exporting import load_untrained, load_with_confidence
from experiments.models import load_model
from experiments.served import FORMS, ServedModel, answer_requests, make_request
from experiments.skew import compare_raw, score_encoded, score_raw


@pytest.fixture(scope="module")
def model(clsd):
    return load_model(clsd, clsd.config())


@pytest.fixture(scope="module")
def encoder(clsd):
    return Encoder.load(clsd.encoding)


@pytest.fixture(scope="module")
def exported(model, encoder, tmp_path_factory):
    return export_model(model, encoder, tmp_path_factory.mktemp("served"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_raw_rows_are_encoded_as_prepare_did_row_by_row(
    exported, model, encoder, prepared, log, split
):
    trained = score_split(model, encoder, prepared, split)
    rows, scores, of_examples = score_raw(exported, prepared, log, split, example_rows=500)
    np.testing.assert_array_equal(rows, trained.rows)
    assert np.ptp(scores) > 0.1
    np.testing.assert_allclose(scores, trained.scores, atol=1e-5)
    assert len(of_examples) == 500
    np.testing.assert_allclose(of_examples, trained.scores[:500], atol=1e-5)


def test_encoded_rows_get_the_same_scores(exported, model, encoder, prepared):
    trained = score_split(model, encoder, prepared, "valid")
    scored = score_encoded(exported, encoder, prepared, "valid")
    np.testing.assert_allclose(scored.scores, trained.scores, atol=1e-6)
    np.testing.assert_array_equal(scored.labels, trained.labels)


def test_raw_rows_are_those_of_the_log(encoder, prepared, log):
    with raw_batches(prepared, log, "valid") as batches:
        rows = rows_of(next(batches), encoder)
    assert {type(row["item_id"]) for row in rows} == {str}
    assert max(len(row["click_history"]) for row in rows) == 20
    assert any(len(row["item_tags"]) > 1 for row in rows)


class TestDifferences:
    def test_of_another_encoding_are_found(self, model, encoder, exported, prepared, log, tmp_path):
        """One word of a vocabulary is another one in the export: its rows differ, no others."""
        skewed = tmp_path / "1"
        shutil.copytree(exported, skewed)
        path = skewed / "assets" / "item_category.txt"
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join(["another", *rest]) + "\n")
        trained = score_split(model, encoder, prepared, "valid")
        _, skew = compare_raw(skewed, trained, prepared, log, "valid", allowed=1e-5)
        with raw_batches(prepared, log, "valid") as batches:
            affected = sum(
                row["item_category"] == first for b in batches for row in rows_of(b, encoder)
            )
        assert 0 < affected < skew.rows
        assert 0.9 * affected < skew.rows_that_differ <= affected
        assert skew.largest_difference > 1e-3

    def test_of_half_precision_are_small(self, model, encoder, prepared, log, tmp_path):
        path = export_model(model, encoder, tmp_path, storage=TableStorage("bfloat16"))
        trained = score_split(model, encoder, prepared, "valid")
        served, skew = compare_raw(path, trained, prepared, log, "valid", allowed=1e-5)
        assert skew.rows_that_differ > 0.5 * skew.rows
        assert 1e-5 < skew.largest_difference < 0.01
        assert np.corrcoef(served.scores, trained.scores)[0, 1] > 0.9999

    def test_another_log_is_none(self, model, encoder, exported, prepared, log, tmp_path):
        trained = score_split(model, encoder, prepared, "train")
        with pytest.raises(ValueError, match="raw log has other rows than"):
            compare_raw(exported, trained, prepared, log, "valid", allowed=1e-5)


def test_the_command_compares(run, clsd, exported, prepared, log):
    raw = [f"--saved_model={exported}", f"--raw={log}"]
    results = run("experiments.evaluate", f"--model_dir={clsd.directory}", *raw, cwd=log.parent)
    metrics = json.loads(results.read_text())["metrics"]
    assert metrics["skew"]["rows"] == metrics["click"]["rows"]
    assert metrics["skew"]["rows_that_differ"] == 0
    assert metrics["by_export"]["click"]["auc"] == pytest.approx(metrics["click"]["auc"], abs=1e-6)


class TestServedModel:
    @pytest.mark.parametrize("form", FORMS)
    def test_answers_and_is_timed(self, exported, encoder, form):
        request = make_request(encoder, form, candidates=3, seed=1)
        served = ServedModel(exported)
        assert served.answer(FORMS[form], request).size == 3
        seconds = answer_requests(served, encoder, form, candidates=3, count=6)
        assert seconds.shape == (6,)
        assert (seconds > 0).all()

    def test_all_forms_give_the_same_scores(self, exported, encoder):
        served = ServedModel(exported)
        scores = [
            served.answer(name, make_request(encoder, form, 5, seed=2)).ravel()
            for form, name in FORMS.items()
        ]
        for other in scores[1:]:
            np.testing.assert_allclose(other, scores[0], atol=1e-6)

    def test_mistakes(self, exported, encoder, tmp_path):
        with pytest.raises(ValueError, match="There is no export at"):
            ServedModel(tmp_path)
        with pytest.raises(ValueError, match="has no signature 'rank'"):
            ServedModel(exported).answer("rank", {})
        with pytest.raises(ValueError, match="Unknown form of requests. Received: 'json'"):
            make_request(encoder, "json", 1)


class TestLoading:
    def test_the_taught_student_knows_what_it_was_taught(self, clsd, model, encoder, prepared):
        taught = load_with_confidence(clsd)
        weights = zip(taught.backbone.weights, model.backbone.weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in weights)
        assert taught.confidence.is_fitted
        teacher = load_model(clsd, clsd.config(), part="teacher").backbone
        weights = zip(taught.teacher.weights, teacher.weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in weights)

    def test_a_plain_run_has_none(self, plain):
        with pytest.raises(ValueError, match="no teacher that can score new rows"):
            load_with_confidence(plain)

    def test_initial_weights_are_those_of_the_seed(self, plain):
        untrained = load_untrained(plain).backbone
        trained = load_model(plain, plain.config()).backbone
        (before, after) = (b.embedding.embedding_variables[0].numpy() for b in (untrained, trained))
        changed = np.any(before != after, axis=1)
        assert 0.3 < changed.mean() < 1
        assert np.abs(before).max() <= 0.05
        tf.debugging.assert_equal(before[~changed], after[~changed])
