"""The real Prometheus and its Alertmanager, on loopback, with a clock that runs faster.

Rules speak of minutes and days. `hurried` divides every length of time in them, so that a test
sees in seconds what takes an hour.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web

ALERTMANAGER = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None or ALERTMANAGER is None,
    reason="prometheus or its alertmanager is not installed"
    " (Debian: apt-get install prometheus prometheus-alertmanager)",
)
SCRAPE_SECONDS = 0.5
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def hurried(rules: str, times: int) -> str:
    """The rules with every window and every `for` this many times shorter."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * _UNITS[found[3]] / times
        return f"{found[1]}{round(seconds * 1000)}ms"

    return re.sub(r"(\[|for: )(\d+)([smhd])", shorter, rules)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str, **params: str) -> Any:
        """What its API answers. Fails the test where it refuses."""
        async with self._session.get(f"{self.url}/api/v1/{path}", params=params) as response:
            answer = msgspec.json.decode(await response.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, expr: str) -> list[Any]:
        """What an expression comes to now."""
        found: list[Any] = (await self.get("query", query=expr))["result"]
        return found

    async def names(self) -> set[str]:
        """Every name that a series has."""
        return set(await self.get("label/__name__/values"))

    async def rules(self) -> list[Any]:
        """Every rule, with its health and state."""
        groups = (await self.get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {rule["name"] for rule in await self.rules() if rule.get("state") == "firing"}


class Webhook:
    """Whoever is to be woken."""

    def __init__(self) -> None:
        self.alerts: dict[str, Mapping[str, Any]] = {}  # by name
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """What Alertmanager posts."""
        told = msgspec.json.decode(await request.read())
        for alert in told["alerts"]:
            self.alerts[alert["labels"]["alertname"]] = alert
        return web.Response()


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """A server on loopback that listens to Alertmanager."""
    hook = Webhook()
    app = web.Application()
    app.add_routes([web.post("/", hook.take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        hook.url = f"http://{host}:{port}/"
        yield hook
    finally:
        await runner.cleanup()


@asynccontextmanager
async def prometheus(
    folder: Path, targets: Sequence[str], rules: str, hook: Webhook
) -> AsyncIterator[Prometheus]:
    """Prometheus and Alertmanager, until the block ends."""
    manager = f"127.0.0.1:{free_port()}"
    _write(folder / "alertmanager.yml", _alertmanager(hook))
    _write(folder / "prometheus.yml", _prometheus(targets, manager))
    (folder / "rules.yml").write_text(rules)
    address = f"127.0.0.1:{free_port()}"
    async with (
        _program(
            str(ALERTMANAGER),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alerts",
            f"--web.listen-address={manager}",
            "--cluster.listen-address=",
        ),
        _program(
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/series",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ),
        aiohttp.ClientSession() as session,
    ):
        await _ready(session, f"http://{address}/-/ready")
        await _ready(session, f"http://{manager}/-/ready")
        yield Prometheus(f"http://{address}", session)


def free_port() -> int:
    """A port that nobody listens on, a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content))


def _prometheus(targets: Sequence[str], manager: str) -> object:
    often = f"{round(SCRAPE_SECONDS * 1000)}ms"
    addresses = [target.removeprefix("http://") for target in targets]
    return {
        "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "penstock", "static_configs": [{"targets": addresses}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
    }


def _alertmanager(hook: Webhook) -> object:
    route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "100ms"}
    receiver = {"name": "hook", "webhook_configs": [{"url": hook.url}]}
    return {"route": {**route, "group_interval": "1s"}, "receivers": [receiver]}


@asynccontextmanager
async def _program(*command: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        said = group.create_task(process.stderr.read())  # or it would block
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await said


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(200):
        with suppress(aiohttp.ClientError):
            async with session.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.05)
    pytest.fail(f"{url} does not answer")
