"""The demo model server in the test's own process, and a penstock in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from aiohttp import web

from proxy.demo import Settings, build_app
from tests.harness import Proxy, config_for, penstock

HELLO = "This is the demo model of penstock. It does not think, it repeats. You said: hello"
HELLO_TOKENS = 17  # its words and the token that ends it


class State(msgspec.Struct, frozen=True):
    """What the demo's "GPU" does: generations running, ever started, and those left by readers."""

    running: int
    started: int
    aborted: int


class Demo:
    """A running demo server."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    @property
    def connections(self) -> int:
        """How many connections are open to it."""
        server = self._runner.server
        assert server is not None
        return len(server.connections)

    async def state(self, **wanted: int) -> State:
        """Its counts, as soon as they are as wanted (or after ten seconds, as they are)."""
        query = {name: str(value) for name, value in wanted.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/demo/state", params=query) as response,
        ):
            return msgspec.json.decode(await response.read(), type=State)


@asynccontextmanager
async def demo_server(settings: Settings | None = None) -> AsyncIterator[Demo]:
    """A demo server on a free port; without settings it makes its tokens at once."""
    app = build_app(settings or Settings(pace_seconds=0))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        yield Demo(runner)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def before_demo(
    dialect: str, settings: Mapping[str, object] | None = None
) -> AsyncIterator[tuple[Proxy, Demo]]:
    """A penstock that calls the demo in this dialect; `settings` are of the penstock block."""
    async with demo_server() as demo:
        config = config_for(
            demo.url, kind="huggingface-tgi", settings={"dialect": dialect}, penstock=settings
        )
        async with penstock(config) as proxy:
            yield proxy, demo
