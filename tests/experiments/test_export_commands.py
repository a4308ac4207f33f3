"""The commands around an export: with all options, deployed, rolled back, measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clsd_tf.versions import list_versions


def metrics_of(results) -> dict:
    return json.loads(results.read_text())["metrics"]


@pytest.fixture(scope="module")
def exported(run, clsd, tmp_path_factory):
    """The base path of a small export with confidence, and what the command said of it."""
    where = tmp_path_factory.mktemp("exported")
    flags = ["--storage=float16", "--prune", "--with_confidence", "--warmup_requests=1", "--keep=2"]
    command = [f"--model_dir={clsd.directory}", "--output_dir=served/model", *flags]
    results = run("experiments.export", *command, cwd=where)
    return where / "served" / "model", metrics_of(results)


def test_an_export_with_all_options(exported):
    base, metrics = exported
    assert list_versions(base) == [1]
    assert metrics["warmup_requests"] == 1
    assert metrics["removed"] == []
    assert all(rows > 100 for rows in metrics["rows_kept"])
    metadata = json.loads((base / "1" / "assets.extra" / "metadata.json").read_text())
    assert "confidence" in metadata["signatures"]
    assert metadata["tables"] == {"dtype": "float16", "pruned": True}
    assert (base / "1" / "assets.extra" / "tf_serving_warmup_requests").stat().st_size


class TestDeployment:
    @pytest.fixture
    def deploy(self, run, tmp_path):
        base = tmp_path / "served" / "click_model"
        for version in (1, 2, 3, 4):
            (base / str(version)).mkdir(parents=True)

        def deploy(*flags: str) -> dict:
            where = ["--base_dir=served/click_model", "--output_dir=deployment"]
            return metrics_of(run("experiments.deploy", *where, *flags, cwd=tmp_path))

        deploy.base = base
        deploy.files = tmp_path / "deployment"
        return deploy

    def test_from_the_first_version_to_a_rollback(self, deploy):
        assert deploy("--stable=1")["labels"] == {"stable": 1}
        assert deploy("--canary=2")["labels"] == {"stable": 1, "canary": 2}
        config = (deploy.files / "model.config").read_text()
        assert "versions: 1 versions: 2" in config
        promoted = deploy("--promote", "--keep=1")
        assert (promoted["labels"], promoted["removed"]) == ({"stable": 2}, [3])
        assert list_versions(deploy.base) == [1, 2, 4]  # 1 is there to go back to
        assert deploy("--rollback")["labels"] == {"stable": 1}
        assert 'key: "stable" value: 1' in (deploy.files / "model.config").read_text()

    def test_mistakes_are_told_and_change_nothing(self, deploy):
        assert deploy()["labels"] == {"stable": 4}
        before = (deploy.files / "model.config").read_text()
        for flags, message in (
            (["--stable=9"], "lacks versions that are to be served. Received: \\[9\\]"),
            (["--promote"], "no canary of 'click_model'"),
            (["--rollback"], "the first that was stable"),
            (["--rollback", "--stable=1"], "Received: --rollback, --stable"),
        ):
            with pytest.raises(AssertionError, match=message):
                deploy(*flags)
        assert (deploy.files / "model.config").read_text() == before


@pytest.mark.slow
def test_what_smaller_tables_cost_is_measured(run, clsd, tmp_path):
    results = run("experiments.table_storage", f"--model_dir={clsd.directory}", cwd=tmp_path)
    measured = metrics_of(results)["storage"]
    assert list(measured)[:3] == ["float32", "float16", "bfloat16"]
    assert measured["float16"]["variable_bytes"] < 0.6 * measured["float32"]["variable_bytes"]
    for values in measured.values():
        assert np.isfinite(values["auc_difference"])
        assert abs(values["auc_difference"]) < 0.01
    assert abs(measured["float16"]["auc_difference"]) < 1e-3
