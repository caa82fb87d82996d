"""The chart: what it refuses, and what it makes of values, to the last byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.deploy.manifests import (
    CHART,
    DEPLOY,
    MODEL_SERVER,
    RENDERS,
    Document,
    containers,
    loaded,
    of_kind,
    penstock_of,
    pod_of,
    render,
    the,
)
from tests.deploy.semantics import config_of

GOLDEN = Path(__file__).parent / "golden"
# UPDATE_GOLDEN=1 writes them anew; then read the diff.
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))  # noqa: TID251 - a test's knob


@pytest.mark.parametrize("variant", RENDERS)
def test_the_chart_renders_what_was_reviewed(variant: str) -> None:
    golden = GOLDEN / f"{variant}.yaml"
    found = render(RENDERS[variant])
    if UPDATE:
        golden.write_text(found)

    assert found == golden.read_text()


@pytest.mark.parametrize("variant", RENDERS)
def test_the_linter_finds_nothing_but_the_missing_icon(variant: str) -> None:
    report = helm_python.lint(CHART, dict(RENDERS[variant]), strict=True, kube_version="v1.29.0")

    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 1}, "'replica' not allowed"),
        ({"longestStreamSeconds": 0}, "/longestStreamSeconds"),
        ({"longestStreamSeconds": "300"}, "/longestStreamSeconds"),
        ({"service": {"port": 99999}}, "/service/port"),
        ({"image": {"tag": 1}}, "/image/tag"),
        ({"modelServer": {"name": "tgi"}}, "/modelServer"),
        ({"modelServer": {"name": "penstock", "image": "x:1"}}, "/modelServer/name"),
        ({"volumes": [{"name": "config"}]}, "/volumes/0"),
        ({"podMonitor": {"interval": "often"}}, "/podMonitor/interval"),
        ({"networkPolicy": {"clients": {}}}, "/networkPolicy/clients"),
    ],
)
def test_a_value_that_means_nothing_is_refused(values: Document, place: str) -> None:
    with (
        helm_python.Chart.load(CHART) as chart,
        pytest.raises(helm_python.HelmValuesError, match=place),
    ):
        chart.validate_schema(values)


def test_every_value_is_in_the_schema_and_every_key_of_the_schema_is_a_value() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema, values = chart.schema, chart.values

    assert schema is not None
    assert set(schema["properties"]) - {"global"} == set(values)


@pytest.mark.parametrize("seconds", [1, 300, 86_400])
def test_the_longest_stream_sets_timeout_drain_and_grace(seconds: int) -> None:
    found = loaded(render({"longestStreamSeconds": seconds}))

    pod = pod_of(found)
    assert config_of(found)["penstock"]["timeouts"] == {"totalSeconds": seconds}
    assert penstock_of(pod)["args"][-1] == f"--drain-seconds={seconds + 5}"
    assert pod["spec"]["terminationGracePeriodSeconds"] == seconds + 30


def test_a_sidecar_is_ready_with_its_model_server_unless_told_otherwise() -> None:
    told = {"penstock": {"readiness": "config"}}
    values: list[Document] = [
        {},
        {"modelServer": MODEL_SERVER},
        {"modelServer": MODEL_SERVER, "config": told},
    ]

    found = [config_of(loaded(render(each)))["penstock"].get("readiness") for each in values]

    assert found == [None, "any", "config"]


def test_a_model_server_keeps_its_own_hook() -> None:
    hook = {"exec": {"command": ["sleep", "60"]}}
    server = {**MODEL_SERVER, "lifecycle": {"preStop": hook}}

    _, container = containers(pod_of(loaded(render({"modelServer": server}))))

    assert container["lifecycle"] == {"preStop": hook}


def test_a_hook_at_the_start_does_not_replace_the_one_at_the_end() -> None:
    server = {**MODEL_SERVER, "lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}

    _, container = containers(pod_of(loaded(render({"modelServer": server}))))

    assert set(container["lifecycle"]) == {"postStart", "preStop"}


def test_without_sources_a_port_is_closed_to_all() -> None:
    found = loaded(render({"networkPolicy": {"clients": [], "operators": []}}))

    assert the(found, "NetworkPolicy")["spec"]["ingress"] is None


def test_a_config_map_and_keys_of_ones_own() -> None:
    found = loaded(render({"existingConfigMap": "mine", "keysSecret": ""}))

    assert of_kind(found, "ConfigMap") == []
    assert pod_of(found)["spec"]["volumes"] == [{"name": "config", "configMap": {"name": "mine"}}]


def test_rules_given_as_values_replace_those_of_the_chart() -> None:
    groups = [{"name": "mine", "rules": [{"record": "a", "expr": "sum(b)"}]}]

    found = loaded(render({"prometheusRule": {"enabled": True, "groups": groups}}))

    assert the(found, "PrometheusRule")["spec"] == {"groups": groups}


def test_the_rules_are_the_same_everywhere_and_prometheus_reads_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    file = CHART / "files/rules.yml"
    kustomized = yaml.safe_load((DEPLOY / "kustomize/monitoring/prometheusrule.yaml").read_text())

    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )

    assert yaml.safe_load(file.read_text()) == kustomized["spec"]
    assert (done.returncode, done.stderr) == (0, "")
