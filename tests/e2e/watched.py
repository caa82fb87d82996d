"""A penstock as in `tests.harness`, of which the whole log and the whole status can be read."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.app import Options, Penstock, running
from proxy.log import Log
from tests.harness import Line, Proxy


class Entry(Line, frozen=True):
    """A request's log line, with the number of the configuration that served it."""

    generation: int = 0
    endpoint: str = ""
    dialect: str = ""


class Config(msgspec.Struct, frozen=True):
    """How the last attempt to load the configuration went."""

    generation: int
    ok: bool
    reason: str
    problems: list[str]


class Holding(msgspec.Struct, frozen=True):
    """An endpoint that some configuration in use knows."""

    provider: str
    name: str
    in_flight: int


class Model(msgspec.Struct, frozen=True):
    """A model of the configuration that serves."""

    ref: str
    provider: str
    endpoints: list[str]


class Status(msgspec.Struct, frozen=True):
    """What `/status` and `/events` say."""

    config: Config
    draining: bool
    warnings: list[str]
    models: list[Model]
    endpoints: list[Holding]

    @property
    def in_flight(self) -> dict[str, int]:
        """The requests that hold each endpoint."""
        return {each.name: each.in_flight for each in self.endpoints}


class Watched(Proxy):
    """A running penstock whose every word is kept."""

    def __init__(
        self, penstock: Penstock, session: aiohttp.ClientSession, config: Path, log: io.BytesIO
    ) -> None:
        super().__init__(penstock, session, config, log)
        self._written = log
        self.session = session

    @property
    def log(self) -> bytes:
        """All that was logged so far."""
        self.service.log.flush()
        return self._written.getvalue()

    def entries(self) -> list[Entry]:
        """The requests that have ended."""
        lines = self.log.splitlines()
        return [msgspec.json.decode(line, type=Entry) for line in lines if b'"request"' in line]

    async def described(self) -> Status:
        """What `/status` says."""
        return msgspec.convert(await self.status(), Status)

    async def until(self, holds: Callable[[Status], bool]) -> Status:
        """What `/status` says once this holds; the status as it is after five seconds."""
        status = await self.described()
        for _ in range(500):
            if holds(status):
                break
            await asyncio.sleep(0.01)
            status = await self.described()
        return status

    def put(self, config: Mapping[str, Any]) -> None:
        """Put a new file in the place of the configuration, as Kubernetes and editors do."""
        self.put_bytes(msgspec.json.encode(config))

    def put_bytes(self, content: bytes) -> None:
        """As `put`, whatever the content."""
        other = self.config.with_suffix(".new")
        other.write_bytes(content)
        os.replace(other, self.config)  # noqa: PTH105 - the name of what is meant

    async def replace(self, config: Mapping[str, Any]) -> int:
        """As `reload`, with a new file in the place of the old one."""
        self.put(config)
        async with self.session.post(f"{self.admin_url}/reload") as response:
            return response.status


def families(page: str) -> list[Metric]:
    """What a metrics page holds, read as Prometheus would."""
    return list(text_string_to_metric_families(page))


def open_families(page: str) -> list[Metric]:
    """The same of a page in the OpenMetrics format."""
    return list(openmetrics.text_string_to_metric_families(page))  # type: ignore[no-untyped-call]  # it has no types


def value_of(page: str, name: str, **labels: str) -> float:
    """One sample of a metrics page. Raises KeyError."""
    for family in families(page):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise KeyError(name)


@asynccontextmanager
async def watched(config: Mapping[str, Any]) -> AsyncIterator[Watched]:
    """A penstock that serves this configuration until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.jsonc"
        path.write_bytes(msgspec.json.encode(config))
        written = io.BytesIO()
        options = Options(config=path, port=0, admin_port=0)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            running(options, Log(written)) as penstock,
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        ):
            yield Watched(penstock, session, path, written)
