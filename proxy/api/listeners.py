"""The two listeners: what stands behind each, and how it is opened."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from proxy.api import admin, anthropic, openai, sourcegraph, sourcegraph_llm, tgi
from proxy.api.door import Door, Route
from proxy.api.server import NAME, Server
from proxy.service import Service

BACKLOG = 4096  # aiohttp's 128 makes a burst of connects wait for SYN retries
SPARE_FILES = 64  # for operators, probes, the configuration and the log, whatever clients do
CLEANUP_SECONDS = 1.0  # for handlers to return once their requests have ended
ADMIN_CLEANUP_SECONDS = 0.2  # a page takes less, and a feed of events never ends by itself


def client_routes(service: Service) -> list[Route]:
    """All that clients can call."""
    surfaces = (openai, anthropic, tgi, sourcegraph, sourcegraph_llm)
    return [route for surface in surfaces for route in surface.routes(service)]


def client_runner(service: Service) -> web.BaseRunner:
    """What clients reach."""
    most = max_connections()
    server = Server(
        Door(client_routes(service), lambda: service.draining),
        max_connections=most,
        on_full=lambda refused: service.log.write("full", connections=most, refused=refused),
    )
    return web.ServerRunner(server, shutdown_timeout=CLEANUP_SECONDS)


def max_connections() -> int:
    """How many clients may be connected: half the files we may open, for each may need another."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((soft - SPARE_FILES) // 2, 1)


class _AdminRunner(web.AppRunner):
    """An application behind our own server."""

    async def _make_server(self) -> web.Server:
        theirs = await super()._make_server()
        return Server(theirs.request_handler, request_factory=theirs.request_factory)


def admin_runner(service: Service) -> web.BaseRunner:
    """What operators and probes reach."""
    app = web.Application(middlewares=[admin.no_pages, admin.local_orders(service)])
    app.on_response_prepare.append(_sign)
    app.add_routes(admin.routes(service))
    return _AdminRunner(app, shutdown_timeout=ADMIN_CLEANUP_SECONDS)


async def _sign(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers[hdrs.SERVER] = NAME


@asynccontextmanager
async def listening(runner: web.BaseRunner, host: str, port: int) -> AsyncIterator[web.BaseRunner]:
    """The runner, on its address until the block ends."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        yield runner
    finally:
        await runner.cleanup()


def address_of(runner: web.BaseRunner) -> str:
    """The URL of a runner's first address, with the port it really has."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def has_unsent(runner: web.BaseRunner) -> bool:
    """Whether some client has not yet taken all that was written for it."""
    server = runner.server
    connections = () if server is None else server.connections
    transports = (each.transport for each in connections)
    return any(each is not None and each.get_write_buffer_size() for each in transports)
