"""What TensorBoard finds in the logs of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from clsd_tf import Encoder
from clsd_tf.embeddings import embeddings_of
from experiments.learning_curve import FILE, read_curve
from experiments.models import load_model
from experiments.tensorboard_logs import group_table, hyperparameters, write_projector


@pytest.fixture(scope="module")
def events(clsd):
    accumulator = EventAccumulator(str(clsd.logs / "student"), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def text_of(events, tag: str) -> str:
    return events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def test_scalars_of_all_and_of_groups(events, clsd):
    groups = Encoder.load(clsd.encoding).num_groups
    tags = set(events.Tags()["tensors"])
    wanted = {"train/loss", "train/confidence", "valid/loss", "valid/auc"}
    wanted |= {f"valid/auc_group_{group}" for group in range(groups)}
    wanted |= {f"train/confidence_group_{group}" for group in range(groups)}
    assert wanted <= tags


def test_tables_and_histograms_of_groups(events, clsd):
    names = Encoder.load(clsd.encoding).group_names()
    table = text_of(events, "groups").splitlines()
    assert table[0] == "| group | confidence | val_auc |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == names
    assert all("nan" not in line for line in table)
    assert "| all |" in text_of(events, "confidence/groups")
    histograms = {f"confidence/group_{group}" for group in range(len(names))}
    assert histograms | {"confidence/all"} <= set(events.Tags()["tensors"])
    buckets = np.array(events.Tensors("confidence/all")[-1].tensor_proto.float_val)
    assert events.SummaryMetadata("confidence/all").plugin_data.plugin_name == "histograms"
    assert buckets.size or events.Tensors("confidence/all")[-1].tensor_proto.tensor_content


def test_hyperparameters(events, clsd):
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert found["confidence"].string_value == "affine"
    assert found["learning_rate"].number_value == pytest.approx(1e-3)
    assert json.loads(found["backbone_options"].string_value) == {"units": [16]}
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    tags = {info.name.tag for info in experiment.metric_infos}
    assert tags <= set(events.Tags()["tensors"])
    assert {info.name for info in experiment.hparam_infos} == set(found)


def test_what_does_not_decide_is_no_hyperparameter(clsd):
    shown = hyperparameters(clsd.config())
    assert {"seed", "method", "data_dir", "student"} <= set(shown)
    assert not {"data", "teacher_dir", "options", "alpha"} & set(shown)  # alpha is None here


def test_the_projector_shows_items_by_name(clsd):
    directory = clsd.logs / "student"
    text = (directory / "projector_config.pbtxt").read_text()
    config = text_format.Parse(text, projector.ProjectorConfig())
    (embedding,) = config.embeddings
    vectors = np.loadtxt(directory / embedding.tensor_path, delimiter="\t")
    names = (directory / embedding.metadata_path).read_text().splitlines()
    encoder = Encoder.load(clsd.encoding)
    item = encoder.spec.item
    assert names == ["missing", "unknown", *encoder.vocabulary(item)]
    model = load_model(clsd, clsd.config())
    (fused,) = embeddings_of(model.backbone)
    ids = np.arange(len(names))
    rows = {
        f.name: np.zeros([len(ids), *([f.length] if f.length else [])], np.int64)
        for f in fused.features
    }
    embedded = fused({**rows, item.name: ids})[item.name]
    np.testing.assert_allclose(vectors, embedded, rtol=1e-4, atol=1e-6)


def test_a_backbone_without_tables_has_no_projector(clsd, tmp_path, monkeypatch):
    model = load_model(clsd, clsd.config())
    monkeypatch.setattr("experiments.tensorboard_logs.embeddings_of", lambda layer: [])
    assert write_projector(tmp_path, model, Encoder.load(clsd.encoding)) is None
    assert list(tmp_path.iterdir()) == []


def test_group_tables():
    logs = {"loss": 0.5, "val_auc_group_0": 0.6, "val_auc_group_1": 0.7, "val_auc": 0.65}
    assert group_table(logs, ["low", "high"]).splitlines()[2:] == [
        "| low | 0.6000 |",
        "| high | 0.7000 |",
    ]
    assert group_table({"loss": 0.5}, ["low"]) == ""


def test_the_curve_without_tensorboard(clsd):
    for phase in ("teacher", "student"):
        lines = read_curve(clsd.directory / phase / FILE)
        result = json.loads((clsd.directory / phase / "phase.json").read_text())
        (epoch,) = result["epochs"]
        mean = np.average(
            [x["loss"] for x in lines], weights=np.diff([0, *(x["step"] for x in lines)])
        )
        assert mean == pytest.approx(epoch["loss"], rel=1e-3)
        assert result["seconds"] >= lines[-1]["seconds"] > 0.0
        assert ("confidence" in lines[-1]) == (phase == "student")
