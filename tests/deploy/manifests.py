"""What deploy/ comes to: the documents that Kubernetes would get, and ways to their parts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import helm_python
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm/penstock"

# What a YAML document holds is for the API's schema to say, and the schema is checked apart.
Document: TypeAlias = dict[str, Any]

OVERLAYS = ("gateway", "sidecar-tgi", "sidecar-vllm")

MONITORED = {
    "podMonitor": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
}
MODEL_SERVER: Document = {
    "name": "tgi",
    "image": "huggingface/text-generation-inference:3.3.6",
    "args": ["--model-id=mistralai/Mixtral-8x7B-Instruct-v0.1", "--port=8081"],
    "readinessProbe": {"httpGet": {"path": "/health", "port": 8081}},
    "resources": {"limits": {"nvidia.com/gpu": 1}},
}
BESIDE: Document = {
    "modelConfiguration": {
        "providerOverrides": [
            {
                "id": "tgi",
                "serverSideConfig": {
                    "type": "huggingface-tgi",
                    "endpoints": [{"url": "http://127.0.0.1:8081/v1"}],
                },
            }
        ]
    }
}
# The name of each golden render, and its values.
RENDERS: dict[str, Document] = {
    "default": {},
    "gateway": {**MONITORED, "autoscaling": {"enabled": True}, "longestStreamSeconds": 900},
    "sidecar": {**MONITORED, "modelServer": MODEL_SERVER, "config": BESIDE, "replicas": 1},
    "example": yaml.safe_load((DEPLOY / "examples/gateway/values.yaml").read_text()),
}
SETS = (
    *(f"kustomize/{name}" for name in OVERLAYS),
    "examples/tgi-sidecar",
    *(f"helm/{name}" for name in RENDERS),
)


def documents(name: str) -> list[Document]:
    """The documents of one of SETS. Skips where nothing here builds kustomizations."""
    tool, _, variant = name.partition("/")
    return rendered(variant) if tool == "helm" else kustomized(DEPLOY / name)


def kustomized(folder: Path) -> list[Document]:
    """What `kustomize build` makes of a folder; its warnings are failures."""
    for command in (("kustomize", "build"), ("kubectl", "kustomize")):
        if shutil.which(command[0]) and _builds_components(command[0]):
            done = subprocess.run(
                [*command, str(folder)], capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
            return loaded(done.stdout)
    pytest.skip("neither kustomize nor kubectl is installed, of version 5 or 1.27 at least")


def _builds_components(program: str) -> bool:
    """Whether it is a Kustomize 5, alone or in kubectl; older ones have no such `labels`."""
    arguments = ("version", "--client") if program == "kubectl" else ("version",)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    version = re.search(r"(?:Kustomize Version: |^)v(\d+)\.", done.stdout, re.MULTILINE)
    return version is not None and int(version[1]) >= 5


def rendered(variant: str) -> list[Document]:
    """What Helm makes of the chart with the values of one of RENDERS."""
    return loaded(render(RENDERS[variant]))


def render(values: Mapping[str, object]) -> str:
    """The chart's manifests as one text, in the order of their names."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(dict(values), name="demo", namespace="models")
    texts = (files[name].strip() for name in sorted(files) if name.endswith(".yaml"))
    return "".join(f"---\n{text}\n" for text in texts if text)


def loaded(text: str) -> list[Document]:
    """The documents of a YAML text."""
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(found: Iterable[Document], *kinds: str) -> list[Document]:
    """The documents of these kinds."""
    return [each for each in found if each["kind"] in kinds]


def the(found: Iterable[Document], kind: str) -> Document:
    """The one document of this kind."""
    (only,) = of_kind(found, kind)
    return only


def pod_of(found: Iterable[Document]) -> Document:
    """The Pod template of the one Deployment."""
    template: Document = the(found, "Deployment")["spec"]["template"]
    return template


def containers(pod: Document) -> list[Document]:
    """All containers of a Pod, those that start first first."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def penstock_of(pod: Document) -> Document:
    """The container with penstock in it."""
    (only,) = (each for each in containers(pod) if each["name"] == "penstock")
    return only


def model_server_of(pod: Document) -> Document | None:
    """The container with the model server in it; None in a gateway."""
    others = [each for each in containers(pod) if each["name"] != "penstock"]
    return others[0] if others else None


def probes(container: Document) -> Iterator[tuple[str, Document]]:
    """The probes of a container, by their names."""
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        if name in container:
            yield name, container[name]


def config_text(found: Iterable[Document]) -> str:
    """The configuration in the ConfigMap."""
    text: str = the(found, "ConfigMap")["data"]["penstock.jsonc"]
    return text
