"""Texts of what runs TensorFlow Serving: its configs, Docker, Docker Compose, Kubernetes."""

from __future__ import annotations

import string
import textwrap

from clsd_tf.deployment import Deployment

# Signatures of an export were traced by the TensorFlow of the same minor version.
IMAGE = "tensorflow/serving:2.21.0"
GRPC_PORT, REST_PORT = 8500, 8501
_CONFIGS = "/configs"  # where the containers see the files of `config_files`

_BATCHING = """\
# Requests that arrive together are computed together. A request with more rows than
# max_batch_size is refused.
max_batch_size { value: 10000 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
# Requests to predict_candidates may differ in their number of candidates: shorter ones are padded,
# and answers hold as many scores as the longest; a client reads its own.
pad_variable_length_inputs: true
"""

_MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

_DOCKER = """\
#!/bin/sh
# Serves $name: gRPC on port $grpc, REST on port $rest. The first argument is the base path.
set -eu
here=$$(CDPATH='' cd -- "$$(dirname -- "$$0")" && pwd)
base=$$(CDPATH='' cd -- "$${1:?usage: docker_run.sh BASE_PATH}" && pwd)
exec docker run --rm --name $container -p $grpc:$grpc -p $rest:$rest \\
    -v "$$base:/models/$name:ro" -v "$$here:$configs:ro" $image \\
    $arguments
"""

_COMPOSE = """\
# BASE_PATH=/path/to/$name docker compose up
services:
  $container:
    image: $image
    command:
$listed
    ports:
      - "$grpc:$grpc"
      - "$rest:$rest"
    volumes:
      - $${BASE_PATH:?the directory of the versions}:/models/$name:ro
      - .:$configs:ro
    restart: unless-stopped
"""

_KUBERNETES = """\
# The versions are expected in the volume claim `$container-versions`, in its folder $name.
apiVersion: v1
kind: ConfigMap
metadata:
  name: $container-configs
data:
$data
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $container
spec:
  replicas: 2
  selector:
    matchLabels: {app: $container}
  template:
    metadata:
      labels: {app: $container}
    spec:
      containers:
        - name: serving
          image: $image
          args:
$listed
          ports:
            - {name: grpc, containerPort: $grpc}
            - {name: rest, containerPort: $rest}
          readinessProbe:
            httpGet: {path: /v1/models/$name, port: rest}
          volumeMounts:
            - {name: versions, mountPath: /models, readOnly: true}
            - {name: configs, mountPath: $configs, readOnly: true}
      volumes:
        - name: versions
          persistentVolumeClaim: {claimName: $container-versions, readOnly: true}
        - name: configs
          configMap: {name: $container-configs}
---
apiVersion: v1
kind: Service
metadata:
  name: $container
spec:
  selector: {app: $container}
  ports:
    - {name: grpc, port: $grpc, targetPort: grpc}
    - {name: rest, port: $rest, targetPort: rest}
"""


def config_files(deployment: Deployment) -> dict[str, str]:
    """File name -> text, of the configs that the server itself reads."""
    return {
        "model.config": model_config(deployment),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }


def serving_files(deployment: Deployment, image: str = IMAGE) -> dict[str, str]:
    """File name -> text, of all that is needed to serve a deployment.

    Args:
      deployment: what is served.
      image: of TensorFlow Serving.
    """
    configs = config_files(deployment)
    arguments = server_arguments(_CONFIGS)
    values = {
        "name": deployment.name,
        "container": deployment.name.replace("_", "-").lower(),
        "image": image,
        "grpc": GRPC_PORT,
        "rest": REST_PORT,
        "configs": _CONFIGS,
    }
    return {
        **configs,
        "docker_run.sh": _filled(_DOCKER, values, arguments=" \\\n    ".join(arguments)),
        "compose.yaml": _filled(_COMPOSE, values, listed=_listed(arguments, 6)),
        "kubernetes.yaml": _filled(
            _KUBERNETES, values, listed=_listed(arguments, 12), data=_config_map(configs)
        ),
    }


def server_arguments(configs: str, poll_seconds: int = 10) -> list[str]:
    """Flags of `tensorflow_model_server` that finds `config_files` in the folder `configs`.

    Args:
      configs: folder.
      poll_seconds: how often it looks for a new model.config: promotions need no restart.
    """
    return [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        f"--model_config_file={configs}/model.config",
        f"--model_config_file_poll_wait_seconds={poll_seconds}",
        # A label may be given to a version that is about to be loaded.
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={configs}/batching.config",
        f"--monitoring_config_file={configs}/monitoring.config",
    ]


def model_config(deployment: Deployment, base_path: str | None = None) -> str:
    """The text of `model.config`.

    Args:
      deployment: what is served.
      base_path: of the model; as containers see it by default.
    """
    versions = " ".join(f"versions: {version}" for version in deployment.versions)
    labels = "".join(
        f'    version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in deployment.labels.items()
    )
    return (
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{deployment.name}"\n'
        f'    base_path: "{base_path or f"/models/{deployment.name}"}"\n'
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ {versions} }} }}\n"
        f"{labels}"
        "  }\n"
        "}\n"
    )


def _filled(template: str, values: dict[str, object], **others: str) -> str:
    return string.Template(template).substitute(values, **others)


def _listed(arguments: list[str], indent: int) -> str:
    return "\n".join(f"{' ' * indent}- {argument}" for argument in arguments)


def _config_map(configs: dict[str, str]) -> str:
    texts = (f"{name}: |\n{textwrap.indent(text, '  ')}" for name, text in configs.items())
    return textwrap.indent("".join(texts), "  ").rstrip()
