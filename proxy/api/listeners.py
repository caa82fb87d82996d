"""The two web applications, and how each is put on its address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.api import admin, openai, tgi
from proxy.api.surface import front_door
from proxy.service import Service

BACKLOG = 4096  # aiohttp's 128 makes a burst of connects wait for SYN retries
KEEPALIVE_SECONDS = 75.0  # also the limit for a request's head to arrive
CLEANUP_SECONDS = 1.0  # for handlers to return once their requests have ended


def client_app(service: Service) -> web.Application:
    """What clients reach."""
    app = web.Application(middlewares=[front_door])
    app.add_routes(openai.routes(service) + tgi.routes(service))
    return app


def admin_app(service: Service) -> web.Application:
    """What operators and probes reach."""
    app = web.Application()
    app.add_routes(admin.routes(service))
    return app


@asynccontextmanager
async def started(app: web.Application, host: str, port: int) -> AsyncIterator[web.AppRunner]:
    """The application, listening until the block ends.

    A handler is cancelled when its client goes: without that a silent stream outlives it.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=CLEANUP_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        yield runner
    finally:
        await runner.cleanup()


def address_of(runner: web.AppRunner) -> str:
    """The URL of a runner's first address, with the port it really has."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
