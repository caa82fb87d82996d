"""The two listeners: what stands behind each, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.api import admin, anthropic, openai, sourcegraph, sourcegraph_llm, tgi
from proxy.api.door import Door, Route
from proxy.service import Service

BACKLOG = 4096  # aiohttp's 128 makes a burst of connects wait for SYN retries
KEEPALIVE_SECONDS = 75.0  # also the limit for a request's head to arrive
LINGER_SECONDS = 1.0  # how long a refused request's body is read on, so the client sees why
CLEANUP_SECONDS = 1.0  # for handlers to return once their requests have ended
ADMIN_CLEANUP_SECONDS = 0.2  # a page takes less, and a feed of events never ends by itself


def client_routes(service: Service) -> list[Route]:
    """All that clients can call."""
    surfaces = (openai, anthropic, tgi, sourcegraph, sourcegraph_llm)
    return [route for surface in surfaces for route in surface.routes(service)]


def client_runner(service: Service) -> web.BaseRunner:
    """What clients reach.

    A handler is cancelled when its client goes: without that a silent stream outlives it.
    """
    server = web.Server(
        Door(client_routes(service), lambda: service.draining),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
    )
    return web.ServerRunner(server, shutdown_timeout=CLEANUP_SECONDS)


def admin_runner(service: Service) -> web.BaseRunner:
    """What operators and probes reach."""
    app = web.Application(middlewares=[admin.no_pages])
    app.add_routes(admin.routes(service))
    return web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=ADMIN_CLEANUP_SECONDS
    )


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
