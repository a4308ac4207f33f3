"""What is served under which label, and the files that a server and its container read."""

from __future__ import annotations

import os
import re
import shlex

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from clsd_tf.deployment import Deployment
from clsd_tf.serving_files import config_files, model_config, server_arguments, serving_files

BOTH = Deployment("click_model", stable=3, canary=4, earlier=(1, 2))


class TestLabels:
    def test_promotion_and_rollback(self):
        promoted = BOTH.promote()
        assert (promoted.labels, promoted.versions) == ({"stable": 4}, [4])
        assert promoted.earlier == (1, 2, 3)
        back = promoted.roll_back()
        assert back == Deployment("click_model", 3, None, (1, 2))
        assert back.roll_back().roll_back().labels == {"stable": 1}

    def test_a_rollback_drops_the_canary(self):
        assert BOTH.roll_back() == Deployment("click_model", 2, None, (1,))

    def test_the_same_version_again_changes_nothing(self):
        assert BOTH.with_stable(3) is BOTH

    def test_a_canary_that_becomes_stable_is_none_any_more(self):
        assert BOTH.with_stable(4).labels == {"stable": 4}
        assert BOTH.with_stable(9).labels == {"stable": 9, "canary": 4}
        assert BOTH.with_canary(None).labels == {"stable": 3}

    def test_both_may_be_one_version(self):
        assert BOTH.with_canary(3).versions == [3]

    def test_mistakes(self):
        with pytest.raises(ValueError, match="no canary of 'm' to promote"):
            Deployment("m", 1).promote()
        with pytest.raises(ValueError, match="Version 1 of 'm' is the first"):
            Deployment("m", 1).roll_back()

    def test_is_kept(self, tmp_path):
        assert Deployment.load(tmp_path) is None
        BOTH.save(tmp_path)
        assert Deployment.load(tmp_path) == BOTH


class TestFiles:
    def test_model_config_is_what_a_server_reads(self):
        config = text_format.Parse(model_config(BOTH), model_server_config_pb2.ModelServerConfig())
        (model,) = config.model_config_list.config
        assert (model.name, model.base_path) == ("click_model", "/models/click_model")
        assert model.model_platform == "tensorflow"
        assert list(model.model_version_policy.specific.versions) == [3, 4]
        assert dict(model.version_labels) == {"stable": 3, "canary": 4}

    def test_the_server_is_given_each_config(self):
        arguments = " ".join(server_arguments("/configs"))
        for name in config_files(BOTH):
            assert f"/configs/{name}" in arguments

    def test_compose(self):
        compose = yaml.safe_load(serving_files(BOTH)["compose.yaml"])
        service = compose["services"]["click-model"]
        assert service["command"] == server_arguments("/configs")
        assert service["ports"] == ["8500:8500", "8501:8501"]
        assert [volume.rpartition(":/")[2] for volume in service["volumes"]] == [
            "models/click_model:ro",
            "configs:ro",
        ]

    def test_kubernetes(self):
        files = serving_files(BOTH, image="registry/serving:1")
        configs, deployment, service = yaml.safe_load_all(files["kubernetes.yaml"])
        assert configs["data"] == config_files(BOTH)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "registry/serving:1"
        assert container["args"] == server_arguments("/configs")
        assert {port["containerPort"] for port in container["ports"]} == {8500, 8501}
        assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        assert mounted == {volume["name"] for volume in volumes}

    def test_docker_run(self, tmp_path):
        """The script is run with a `docker` that says what it was told."""
        docker = tmp_path / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$TOLD"\n')
        script = tmp_path / "docker_run.sh"
        script.write_text(serving_files(BOTH)["docker_run.sh"])
        for path in (docker, script):
            path.chmod(0o755)
        base = tmp_path / "click model"
        base.mkdir()
        path = f"{docker.parent}:{os.environ['PATH']}"
        told = tmp_path / "told"
        command = f"PATH={path} TOLD={told} {script} {shlex.quote(str(base))}"
        assert os.system(command) == 0
        words = told.read_text().splitlines()
        assert f"{base}:/models/click_model:ro" in words
        assert f"{tmp_path}:/configs:ro" in words
        assert words[-len(server_arguments("/configs")) :] == server_arguments("/configs")

    def test_nothing_is_left_to_fill_in(self):
        for name, text in serving_files(BOTH).items():
            assert not re.search(r"\$(?:\{?(name|container|image|grpc|rest|configs)\b)", text), name
