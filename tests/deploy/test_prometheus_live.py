"""The rules and the dashboard before a real Prometheus that scrapes real penstocks in trouble."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.commands.alerts import ALERTS, BURN_ALERTS
from proxy.commands.rules import rules_for
from tests.deploy.prometheus import (
    NEEDS_PROMETHEUS,
    Prometheus,
    Webhook,
    hurried,
    prometheus,
    webhook,
)
from tests.deploy.staged import GOOD, GOODS, TRACE_ID, TROUBLES, stage

DEPLOY = Path(__file__).parents[2] / "deploy"
TIMES = 120  # an hour is half a minute
NOBODY = "127.0.0.1:1"
EVERY_ALERT = {alert.name for alert in (*ALERTS, *BURN_ALERTS)}


def panels() -> dict[str, list[str]]:
    """The queries of each panel of the dashboard, as Grafana would send them."""
    board = msgspec.json.decode((DEPLOY / "grafana/penstock.json").read_bytes())
    return {
        panel["title"]: [
            target["expr"].replace("$__rate_interval", "5s").replace("$model", ".+")
            for target in panel["targets"]
        ]
        for panel in board["panels"]
        if panel["type"] != "row"
    }


async def until(prom: Prometheus, hook: Webhook) -> None:
    """Until every alert has fired and been told; or long enough."""
    for _ in range(90):
        if hook.alerts.keys() >= EVERY_ALERT:
            return
        await asyncio.sleep(0.5)


@NEEDS_PROMETHEUS
@pytest.mark.timeout(120)
async def test_every_alert_fires_and_every_panel_shows_something(tmp_path: Path) -> None:
    async with stage(tmp_path) as play, webhook() as hook:
        registry = play.main.service.registry
        objectives = {label: model.pool.rules.slo for label, model in registry.models.items()}
        rules = hurried(rules_for(objectives), TIMES)
        targets = [*play.targets, NOBODY]
        async with prometheus(tmp_path, targets, rules, hook) as prom, asyncio.TaskGroup() as group:
            play.begin(group, *GOODS, *TROUBLES)
            await until(prom, hook)
            found = await looked_at(prom)
            play.end()
        firing, unhealthy, unknown, empty, examples = found

    assert set(hook.alerts) == EVERY_ALERT, f"fire: {sorted(firing)}"
    assert unhealthy == {}
    assert unknown == set()
    assert empty == []
    assert {each["labels"]["trace_id"] for series in examples for each in series["exemplars"]} == {
        TRACE_ID
    }


async def looked_at(prom: Prometheus) -> tuple[set[str], dict[str, str], set[str], list[str], Any]:
    """What fires, the rules that fail, names that nobody has, panels without a line, examples."""
    rules = await prom.rules()
    names = await prom.names()
    queries = [query for each in panels().values() for query in each]
    exprs = [rule["query"] for rule in rules] + queries
    named = {name for expr in exprs for name in re.findall(r"penstock[\w:]+", expr)}
    unhealthy = {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"}
    empty = [query for query in queries if not await prom.query(query)]
    family = f'penstock_time_to_first_token_seconds_bucket{{model="{GOOD}"}}'
    examples = await prom.get("query_exemplars", query=family, start="0", end="9999999999")
    return await prom.firing(), unhealthy, named - names - {"penstock"}, empty, examples
