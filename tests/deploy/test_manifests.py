"""What deploy/kustomize and the chart give to Kubernetes: valid, sound, and served by penstock."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path

import aiohttp
import pytest
from kubernetes_validate import utils as kubernetes_validate

from proxy import __version__
from tests.deploy.manifests import (
    SETS,
    Document,
    config_text,
    documents,
    of_kind,
    penstock_of,
    pod_of,
    probes,
    the,
)
from tests.deploy.semantics import problems
from tests.e2e.program import run, serving
from tests.e2e.watched import families
from tests.harness import config_for

MINORS = [each for each in kubernetes_validate.all_versions() if int(each.split(".")[1]) >= 29]
OPERATOR = "monitoring.coreos.com/v1"  # a CRD: its schema is not Kubernetes's

every_set = pytest.mark.parametrize("name", SETS)


@cache
def shared(name: str) -> list[Document]:
    """The documents of a set, made once; copy what you change."""
    return documents(name)


# -- the API's schemas


@every_set
@pytest.mark.parametrize("minor", MINORS)
def test_every_document_fits_the_schema_of_every_supported_kubernetes(
    name: str, minor: str
) -> None:
    checked = [each for each in shared(name) if each["apiVersion"] != OPERATOR]

    for document in checked:
        kubernetes_validate.validate(document, minor, strict=True)

    assert len(checked) >= 6


def test_the_schemas_reach_from_the_first_native_sidecar_to_the_newest_release() -> None:
    assert MINORS[0].startswith("1.29.")
    assert len(MINORS) >= 9


def test_the_schema_refuses_a_key_that_does_not_exist() -> None:
    document = deepcopy(the(shared("kustomize/gateway"), "Deployment"))
    document["spec"]["template"]["spec"]["containers"][0]["restartPolicyy"] = "Always"

    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicyy"):
        kubernetes_validate.validate(document, MINORS[-1], strict=True)


MONITORS = {
    "PodMonitor": {"selector", "podMetricsEndpoints"},
    "ServiceMonitor": {"selector", "endpoints"},
    "PrometheusRule": {"groups"},
}
ENDPOINT = {"port", "path", "interval"}
RULE = {"alert", "expr", "for", "labels", "annotations"}


@every_set
def test_documents_of_the_prometheus_operator_have_the_keys_of_its_api(name: str) -> None:
    found = [each for each in shared(name) if each["apiVersion"] == OPERATOR]

    for each in found:
        spec = each["spec"]
        assert set(spec) == MONITORS[each["kind"]]
        for endpoint in [*spec.get("podMetricsEndpoints", ()), *spec.get("endpoints", ())]:
            assert set(endpoint) == ENDPOINT
        for group in spec.get("groups", ()):
            assert set(group) == {"name", "rules"}
            assert [rule for rule in group["rules"] if set(rule) != RULE] == []
    none, all_three = ("helm/default", "examples/tgi-sidecar"), ("helm/gateway", "helm/sidecar")
    assert len(found) == (0 if name in none else 3 if name in all_three else 2)


# -- what no schema says


@every_set
def test_a_set_has_whatever_a_deployment_takes(name: str) -> None:
    kinds = {each["kind"] for each in shared(name)}

    wanted = {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    if name not in ("helm/default", "examples/tgi-sidecar"):
        wanted |= {"PodMonitor", "PrometheusRule"}
    if name in ("kustomize/gateway", "helm/gateway"):
        wanted |= {"HorizontalPodAutoscaler"}
    if name.startswith(("kustomize/", "helm/")):
        zone, host = pod_of(shared(name))["spec"]["topologySpreadConstraints"]
        assert (zone["topologyKey"], host["topologyKey"]) == (
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        )
    assert wanted <= kinds


@every_set
def test_the_parts_fit_each_other(name: str) -> None:
    assert problems(shared(name)) == []


def _container(found: list[Document]) -> Document:
    return penstock_of(pod_of(found))


BROKEN: dict[str, tuple[Callable[[list[Document]], object], str]] = {
    "service selector": (
        lambda found: the(found, "Service")["spec"]["selector"].update(app="other"),
        "Service selects",
    ),
    "empty selector": (
        lambda found: the(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].clear(),
        "selects every Pod",
    ),
    "target port": (
        lambda found: the(found, "Service")["spec"]["ports"][0].update(targetPort="web"),
        "target port web",
    ),
    "admin in the service": (
        lambda found: the(found, "Service")["spec"]["ports"][0].update(targetPort="admin"),
        "which has no keys",
    ),
    "port": (
        lambda found: _container(found)["ports"][0].update(containerPort=99999),
        "port 99999",
    ),
    "name": (
        lambda found: the(found, "Deployment")["metadata"].update(name="Pen_stock"),
        "not a DNS label",
    ),
    "probe port": (
        lambda found: _container(found)["livenessProbe"]["httpGet"].update(port="http"),
        "livenessProbe asks port http",
    ),
    "no probe": (lambda found: _container(found).pop("startupProbe"), "lacks a probe"),
    "sub path": (
        lambda found: _container(found)["volumeMounts"][0].update(subPath="x"),
        "never updated",
    ),
    "config map": (
        lambda found: the(found, "ConfigMap")["metadata"].update(name="other"),
        "no ConfigMap",
    ),
    "secret": (
        lambda found: pod_of(found)["spec"]["volumes"][1]["secret"].update(secretName="x"),
        "nobody is told to make the Secret x",
    ),
    "root": (
        lambda found: _container(found)["securityContext"].update(runAsUser=0),
        "runAsUser 0",
    ),
    "writable": (
        lambda found: _container(found)["securityContext"].pop("readOnlyRootFilesystem"),
        "readOnlyRootFilesystem None",
    ),
    "latest": (lambda found: _container(found).update(image="penstock"), "happens to be"),
    "grace": (
        lambda found: pod_of(found)["spec"].update(terminationGracePeriodSeconds=30),
        "the grace is 30",
    ),
    "drain": (lambda found: _container(found)["args"].pop(), "does not drain"),
    "hook": (
        lambda found: _container(found)["lifecycle"]["preStop"]["exec"]["command"].pop(),
        "preStop is not the drain",
    ),
    "no hook of the model server": (
        lambda found: pod_of(found)["spec"]["containers"][0].pop("lifecycle"),
        "told to stop while",
    ),
    "ready without its model": (
        lambda found: the(found, "ConfigMap")["data"].update(
            {
                "penstock.jsonc": '{"modelConfiguration": {"providerOverrides": []}, "penstock": '
                '{"timeouts": {"totalSeconds": 300}}}'
            }
        ),
        "readiness is config",
    ),
    "sidecar that ends first": (
        lambda found: _container(found).pop("restartPolicy"),
        "waits for penstock to end",
    ),
    "model server elsewhere": (
        lambda found: pod_of(found)["spec"]["containers"][0]["args"].append("--port=1"),
        "is looked for on",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_part_that_does_not_fit_is_found(name: str) -> None:
    found = deepcopy(shared("kustomize/sidecar-tgi"))
    damage, expected = BROKEN[name]

    damage(found)

    assert [each for each in problems(found) if expected in each] != []


@every_set
def test_the_image_is_of_this_version(name: str) -> None:
    assert penstock_of(pod_of(shared(name)))["image"] == f"penstock:{__version__}"


# -- penstock's own opinion


def with_keys_in(folder: Path, config: str) -> str:
    """The configuration with its keys' files in a folder where they are."""
    for name in re.findall(r"/etc/penstock/keys/([\w-]+)", config):
        (folder / name).write_text(f"a key that is made up, of {name}")
    return config.replace("/etc/penstock/keys", str(folder))


@every_set
async def test_the_configuration_is_one_that_penstock_serves(name: str, tmp_path: Path) -> None:
    config = tmp_path / "penstock.jsonc"
    config.write_text(with_keys_in(tmp_path, config_text(shared(name))))

    finished = await run("check", config)

    assert (finished.status, finished.out) == (0, f"{config}: ok\n")


async def test_every_probe_asks_for_a_page_that_there_is() -> None:
    asked = {
        probe["httpGet"]["path"]
        for name in SETS
        for _, probe in probes(penstock_of(pod_of(shared(name))))
    }
    async with serving(config_for("http://127.0.0.1:9")) as program, aiohttp.ClientSession() as web:
        found = {}
        for path in sorted(asked):
            async with web.get(program.admin_url + path) as response:
                found[path] = response.status

    assert found == {"/livez": 200, "/readyz": 200, "/startupz": 200}


async def test_every_metric_that_is_named_is_one_that_penstock_shows() -> None:
    expressions = {
        rule["expr"]
        for name in SETS
        for document in of_kind(shared(name), "PrometheusRule")
        for group in document["spec"]["groups"]
        for rule in group["rules"]
    }
    scaled_by = {
        metric["pods"]["metric"]["name"]
        for name in SETS
        for document in of_kind(shared(name), "HorizontalPodAutoscaler")
        for metric in document["spec"]["metrics"]
    }
    async with (
        serving(config_for("http://127.0.0.1:9")) as program,
        aiohttp.ClientSession() as web,
        web.get(program.admin_url + "/metrics") as response,
    ):
        page = await response.text()

    shown = {family.name for family in families(page)}
    named = {found for each in expressions for found in re.findall(r"penstock_\w+", each)}
    assert scaled_by == {"penstock_requests_in_flight"}
    assert {each.removesuffix("_total") for each in named | scaled_by} <= shown
    assert len(named) >= 3


async def test_the_command_that_begins_the_drain_is_one_that_penstock_has() -> None:
    (command,) = {
        tuple(penstock_of(pod_of(shared(name)))["lifecycle"]["preStop"]["exec"]["command"])
        for name in SETS
    }

    finished = await run(*command[1:], "--help")

    assert (command[0], finished.status) == ("penstock", 0)
