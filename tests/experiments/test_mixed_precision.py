"""Runs whose backbones compute in mixed precision."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from clsd_tf import Encoder, metrics
from experiments.evaluation import score_split
from experiments.models import load_model
from experiments.runs import Run
from experiments.variants import parse_variant
from tests.experiments.helpers import scores_of

MIXED = "mixed_bfloat16"


@pytest.fixture(scope="module")
def mixed(configure, train, tmp_path_factory):
    """A run of CLSD whose teacher and student compute in bfloat16."""
    config = configure("clsd", options={"confidence": "affine"}, precision=MIXED, backbone="dcn_v2")
    return train(tmp_path_factory.mktemp("runs") / "mixed", config)


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_models_of_a_run_are_loaded_as_they_were_trained(mixed, part):
    backbone = load_model(mixed, mixed.config(), part=part).backbone
    assert backbone.compute_dtype == "bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32"


def test_it_learns_to_rank_clicks(mixed, prepared):
    model, encoder = load_model(mixed, mixed.config()), Encoder.load(mixed.encoding)
    scored = score_split(model, encoder, prepared, "test")
    assert metrics.auc(scored.labels, scored.scores) > 0.57


def test_a_finished_run_of_float32_can_be_its_teacher(plain, configure, train, tmp_path):
    options = {"teacher_dir": str(plain.directory), "precision": MIXED}
    run = train(tmp_path / "run", configure("clsd", **options))
    scores = scores_of(plain)
    # Its weights are the same; this run computes with them in bfloat16.
    np.testing.assert_allclose(scores_of(run, "teacher"), scores, atol=0.05 * np.ptp(scores))


def test_a_variant_of_a_comparison(configure):
    config = parse_variant("plain:precision=mixed_bfloat16").apply(configure("plain"))
    assert config.precision == MIXED


def test_another_precision_is_refused_before_any_training(configure):
    with pytest.raises(ValueError, match="one of: float32, mixed_bfloat16. Received: 'half'"):
        parse_variant("plain:precision=half").apply(configure("plain"))


def test_the_command_takes_it(run, prepared, tmp_path):
    options = ["--method=plain", "--backbone=mlp", "--batch_size=2048"]
    place = f"--model_dir={tmp_path / 'run'}"
    options += [f"--data_dir={prepared}", f"--precision={MIXED}"]
    run("experiments.train", place, *options, cwd=tmp_path)
    assert Run(tmp_path / "run").config().precision == MIXED


def test_it_is_no_option_of_the_backbone(configure, train, tmp_path):
    config = configure("plain", backbone_options={"dtype": MIXED})
    with pytest.raises(ValueError, match="Expected: --precision"):
        train(tmp_path / "run", config)
