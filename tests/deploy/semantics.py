"""What no schema of Kubernetes says: that the parts of a deployment fit each other.

Each check yields sentences about what does not fit; an empty list is a sound deployment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

from parsers import jsonc
from tests.deploy.manifests import (
    Document,
    config_text,
    containers,
    model_server_of,
    of_kind,
    penstock_of,
    pod_of,
    probes,
    the,
)

Check: TypeAlias = Callable[[list[Document]], Iterator[str]]

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.{1,15}$)[a-z0-9]+(-[a-z0-9]+)*")
# Made by the operator, as the comments tell.
SECRETS = {"penstock-keys", "huggingface"}


def problems(found: list[Document]) -> list[str]:
    """Everything that does not fit."""
    return [each for check in CHECKS for each in check(found)]


def _names(found: list[Document]) -> Iterator[str]:
    seen = set()
    for each in found:
        label = f"{each['kind']}/{each['metadata']['name']}"
        if label in seen:
            yield f"{label} is there twice"
        seen.add(label)
        if not NAME.fullmatch(each["metadata"]["name"]):
            yield f"{label} is not a DNS label"
    for container in containers(pod_of(found)):
        for port in container.get("ports", ()):
            if not PORT_NAME.fullmatch(port["name"]):
                yield f"port name {port['name']} is not a service name"
            if not 1 <= port["containerPort"] <= 65535:
                yield f"port {port['containerPort']} does not exist"


def _selectors(found: list[Document]) -> Iterator[str]:
    labels = pod_of(found)["metadata"]["labels"]
    services = [each["metadata"].get("labels", {}) for each in of_kind(found, "Service")]
    for each in found:
        for selector in _pod_selectors(each):
            if not selector:
                yield f"{each['kind']} selects every Pod"
            elif not selector.items() <= labels.items():
                yield f"{each['kind']} selects {selector}, but the Pods have {labels}"
        if each["kind"] == "ServiceMonitor":
            wanted = each["spec"]["selector"]["matchLabels"]
            if sum(wanted.items() <= service.items() for service in services) != 1:
                yield f"ServiceMonitor selects {wanted}, which is not one Service"


def _pod_selectors(document: Document) -> Iterator[Mapping[str, str]]:
    """What a document says of the labels of the Pods that it is about."""
    spec = document.get("spec", {})
    kind = document["kind"]
    if kind == "Service":
        yield spec["selector"]
    if kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        yield spec["selector"]["matchLabels"]
    if kind == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
    if kind == "Deployment":
        for spread in spec["template"]["spec"].get("topologySpreadConstraints", ()):
            yield spread["labelSelector"]["matchLabels"]


def _ports(found: list[Document]) -> Iterator[str]:
    penstock = penstock_of(pod_of(found))
    ports = {port["name"]: port["containerPort"] for port in penstock["ports"]}
    for service in of_kind(found, "Service"):
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service has target port {port['targetPort']}, the Pod {sorted(ports)}"
            if port["targetPort"] == "admin" and service["spec"].get("clusterIP") != "None":
                yield "a Service opens the operators' port, which has no keys"
    for name, probe in probes(penstock):
        if probe["httpGet"]["port"] != "admin":
            yield f"{name} asks port {probe['httpGet']['port']}"


def _policy(found: list[Document]) -> Iterator[str]:
    ports = {port["containerPort"] for port in penstock_of(pod_of(found))["ports"]}
    for policy in of_kind(found, "NetworkPolicy"):
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        if opened != ports:
            yield f"NetworkPolicy opens {sorted(opened)}, the Pod {sorted(ports)}"
        if not all(rule.get("from") for rule in policy["spec"]["ingress"]):
            yield "NetworkPolicy lets everybody in"


def _monitors(found: list[Document]) -> Iterator[str]:
    for monitor in of_kind(found, "PodMonitor", "ServiceMonitor"):
        spec = monitor["spec"]
        for end in [*spec.get("podMetricsEndpoints", ()), *spec.get("endpoints", ())]:
            if (end["port"], end["path"]) != ("admin", "/metrics"):
                yield f"{monitor['kind']} asks {end['port']}{end['path']} for metrics"


def _references(found: list[Document]) -> Iterator[str]:
    pod = pod_of(found)
    spec = pod["spec"]
    if spec["serviceAccountName"] != the(found, "ServiceAccount")["metadata"]["name"]:
        yield f"no ServiceAccount is named {spec['serviceAccountName']}"
    for scaler in of_kind(found, "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] != the(found, "Deployment")["metadata"]["name"]:
            yield "HorizontalPodAutoscaler scales another Deployment"
        if "replicas" in the(found, "Deployment")["spec"]:
            yield "replicas would undo what the autoscaler does at each apply"
    volumes = {each["name"]: each for each in spec["volumes"]}
    mounts = [each for one in containers(pod) for each in one.get("volumeMounts", ())]
    if volumes.keys() != {each["name"] for each in mounts}:
        yield f"volumes {sorted(volumes)}, but mounts {sorted({m['name'] for m in mounts})}"
    if any("subPath" in each for each in mounts):
        yield "a mount with subPath is never updated"
    for volume in volumes.values():
        yield from _source(volume, found)


def _source(volume: Document, found: list[Document]) -> Iterator[str]:
    if "configMap" in volume:
        name = volume["configMap"]["name"]
        if name != the(found, "ConfigMap")["metadata"]["name"]:
            yield f"no ConfigMap is named {name}"
    if "secret" in volume and volume["secret"]["secretName"] not in SECRETS:
        yield f"nobody is told to make the Secret {volume['secret']['secretName']}"


def _security(found: list[Document]) -> Iterator[str]:
    pod = pod_of(found)["spec"]
    if pod.get("automountServiceAccountToken", True):
        yield "the Pod has a key to the API server"
    if pod["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the Pod has no seccomp profile"
    context = {**pod["securityContext"], **penstock_of(pod_of(found))["securityContext"]}
    wanted = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for name, value in wanted.items():
        if context.get(name) != value:
            yield f"penstock has {name} {context.get(name)}"
    for container in containers(pod_of(found)):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if tag in ("", "latest"):
            yield f"{container['name']} is whatever {container['image']} happens to be"


def _lifecycle(found: list[Document]) -> Iterator[str]:
    """The grace holds the longest answer; the sidecar comes first and the model server waits."""
    pod = pod_of(found)
    penstock = penstock_of(pod)
    longest = config_of(found)["penstock"]["timeouts"]["totalSeconds"]
    if pod["spec"]["terminationGracePeriodSeconds"] != 5 + longest + 25:
        yield f"the grace is {pod['spec']['terminationGracePeriodSeconds']}, an answer {longest}"
    if f"--drain-seconds={5 + longest:g}" not in penstock["args"]:
        yield f"penstock does not drain for {longest} seconds"
    if penstock["lifecycle"]["preStop"]["exec"]["command"] != ["penstock", "drain", "--wait"]:
        yield "preStop is not the drain"
    if [name for name, _ in probes(penstock)] != [
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    ]:
        yield "penstock lacks a probe"
    server = model_server_of(pod)
    wanted = "config" if server is None else "any"
    if (policy := config_of(found)["penstock"].get("readiness", "config")) != wanted:
        yield f"readiness is {policy}"
    if server is not None:
        yield from _sidecar(pod, penstock, server)


def _sidecar(pod: Document, penstock: Document, server: Document) -> Iterator[str]:
    if penstock not in pod["spec"].get("initContainers", ()):
        yield "penstock starts beside the model server, not before"
    if penstock.get("restartPolicy") != "Always":
        yield "the Pod waits for penstock to end before the model server starts"
    waiting = server.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    if "penstock_requests_in_flight" not in " ".join(waiting):
        yield f"{server['name']} is told to stop while penstock has streams of it"


def _upstream(found: list[Document]) -> Iterator[str]:
    """A model server in the Pod listens where penstock and the kubelet look for it."""
    server = model_server_of(pod_of(found))
    urls = [
        urlsplit(endpoint["url"])
        for provider in config_of(found)["modelConfiguration"]["providerOverrides"]
        for endpoint in provider["serverSideConfig"]["endpoints"]
    ]
    if server is None:
        if any(url.hostname in ("127.0.0.1", "localhost") for url in urls):
            yield "a gateway looks for a model server in its own Pod"
        return
    arguments = [*server.get("command", ()), *server.get("args", ())]
    listens = {int(each.partition("=")[2]) for each in arguments if each.startswith("--port=")}
    asked = {url.port for url in urls} | {p["httpGet"]["port"] for _, p in probes(server)}
    if asked != listens:
        yield f"{server['name']} listens on {sorted(listens)}, but is looked for on {sorted(asked)}"


def config_of(found: list[Document]) -> Document:
    """The configuration in the ConfigMap."""
    config = jsonc.loads(config_text(found))
    assert isinstance(config, dict)
    return config


CHECKS: tuple[Check, ...] = (
    _names,
    _selectors,
    _ports,
    _policy,
    _monitors,
    _references,
    _security,
    _lifecycle,
    _upstream,
)
