"""A penstock in the test's own process, on real sockets, in front of whatever the test puts there.

async with Upstream(answer) as upstream, penstock(config_for(upstream.url)) as proxy:
    async with proxy.post("/v1/chat/completions", {...}) as response:
        assert await response.read() == b"..."
    assert proxy.last().outcome == "complete"
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.app import Options, Penstock, running
from proxy.log import Log
from proxy.service import Service

MODEL = "lab::v1::model"


def provider(
    url: str | Sequence[str],
    *,
    name: str = "lab",
    kind: str = "openaicompatible",
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """A provider with these endpoints."""
    urls = [url] if isinstance(url, str) else url
    server = {"type": kind, "endpoints": [{"url": each} for each in urls], **(settings or {})}
    return {"id": name, "serverSideConfig": server}


def config_for(
    url: str | Sequence[str],
    *,
    kind: str = "openaicompatible",
    settings: Mapping[str, object] | None = None,
    penstock: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """One model, `lab::v1::model`, on these endpoints; short waits, so that failing is quick."""
    return {
        "modelConfiguration": {
            "sourcegraph": None,
            "providerOverrides": [provider(url, kind=kind, settings=settings)],
            "modelOverrides": [
                {
                    "modelRef": MODEL,
                    "capabilities": ["chat", "autocomplete"],
                    "category": "balanced",
                }
            ],
            "defaultModels": {"chat": MODEL, "fastChat": MODEL, "codeCompletion": MODEL},
        },
        # Checks would come between what a test scripts.
        "penstock": {"health": {"intervalSeconds": 0}, **(penstock or {})},
    }


class Line(msgspec.Struct, frozen=True):
    """What a test asks of a request's log line."""

    event: str
    outcome: str = ""
    status: int = 0
    phase: str = ""
    attempts: int = 0
    exact: bool = False
    client: str = ""
    model: str = ""
    usage: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str = ""
    fault: dict[str, Any] | None = None


class Proxy:
    """A running penstock and a plain client for it."""

    def __init__(
        self, penstock: Penstock, session: aiohttp.ClientSession, config: Path, log: io.BytesIO
    ) -> None:
        self._session = session
        self._log = log
        self.penstock = penstock
        self.config = config

    @property
    def service(self) -> Service:
        """Its shared parts."""
        return self.penstock.service

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return self.penstock.url

    @property
    def admin_url(self) -> str:
        """Where operators reach it."""
        return self.penstock.admin_url

    def post(self, path: str, body: object, **kwargs: Any) -> Any:
        """A POST of JSON; `async with` gives the response."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._session.post(self.url + path, data=data, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        """A GET."""
        return self._session.get(self.url + path, **kwargs)

    def get_admin(self, path: str, **kwargs: Any) -> Any:
        """A GET on the admin listener."""
        return self._session.get(self.admin_url + path, **kwargs)

    async def ask(self, path: str, body: object, **kwargs: Any) -> tuple[int, bytes]:
        """Status and whole body of a POST."""
        async with self.post(path, body, **kwargs) as response:
            return response.status, await response.read()

    async def metrics(self) -> str:
        """The page that Prometheus would get."""
        async with self._session.get(self.admin_url + "/metrics") as response:
            return await response.text()

    async def status(self) -> Any:
        """The admin listener's account of itself."""
        async with self._session.get(self.admin_url + "/status") as response:
            return msgspec.json.decode(await response.read())

    async def reload(self, config: Mapping[str, Any]) -> int:
        """Write another configuration and have it loaded; the status of the answer."""
        self.config.write_bytes(msgspec.json.encode(config))
        async with self._session.post(self.admin_url + "/reload") as response:
            return response.status

    def written(self) -> bytes:
        """The log so far."""
        self.service.log.flush()
        return self._log.getvalue()

    def lines(self) -> list[Line]:
        """The log lines of requests so far; those ended are all there."""
        self.service.log.flush()
        lines = self._log.getvalue().splitlines()
        return [msgspec.json.decode(line, type=Line) for line in lines if b'"request"' in line]

    async def ended(self, count: int = 1) -> list[Line]:
        """The lines of requests, once there are this many."""
        while len(found := self.lines()) < count:  # noqa: ASYNC110 - a log line is no event
            await asyncio.sleep(0.005)
        return found


@asynccontextmanager
async def penstock(config: Mapping[str, Any]) -> AsyncIterator[Proxy]:
    """A penstock that serves this configuration until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.jsonc"
        path.write_bytes(msgspec.json.encode(config))
        written = io.BytesIO()
        options = Options(config=path, port=0, admin_port=0)
        async with (
            running(options, Log(written)) as penstock,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            yield Proxy(penstock, session, path, written)


def chat(text: str = "hi", *, stream: bool = True, **members: object) -> dict[str, object]:
    """A chat request."""
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "stream": stream, **members}
