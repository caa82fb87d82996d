"""The second listener: metrics, probes, status, reload, drain. It has no keys: keep it to yourself.

A page in an operator's browser reaches what the operator reaches, so pages are kept out by two
rules. Browsers say in Origin where a request that changes something comes from, whatever made it:
whoever sends one is refused. A page that rebinds its own name to 127.0.0.1 may still read without
one, but then Host holds its name: over loopback only addresses and localhost are answered to.

Probes come from other machines, and so may anybody where this listens for them: those may read.
"""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address
from time import monotonic

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp_sse import sse_response
from prometheus_client.exposition import choose_encoder

from proxy.api import debug
from proxy.api.surface import json_answer
from proxy.drain import Drain
from proxy.reload import ReloadStatus
from proxy.service import Service

_READS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
_PORT = re.compile(r":\d*\Z")


@web.middleware
async def no_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what pages in browsers send."""
    if hdrs.ORIGIN in request.headers:
        return web.Response(text="pages in browsers are not served here\n", status=403)
    if _is_over_loopback(request) and not _is_local(request.headers.get(hdrs.HOST, "localhost")):
        return web.Response(text="ask by an IP address or as localhost\n", status=403)
    return await handler(request)


def local_orders(service: Service) -> Middleware:
    """Refuse what changes something and comes from elsewhere, unless the file lets it."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_let = service.registry.listen.admin_remote_writes or _is_from_here(request)
        if not is_let and request.method not in _READS:
            text = "orders are taken from this machine only (penstock.listen.adminRemoteWrites)\n"
            return web.Response(text=text, status=403)
        return await handler(request)

    return refuse


def _is_from_here(request: web.Request) -> bool:
    """Whether the other end is this machine, or this pod."""
    return request.remote is not None and ip_address(request.remote.partition("%")[0]).is_loopback


def _is_over_loopback(request: web.Request) -> bool:
    """Whether it comes from this machine, as that of a browser here would; True if it has gone."""
    transport = request.transport
    own = None if transport is None else transport.get_extra_info("sockname")
    return own is None or ip_address(own[0].partition("%")[0]).is_loopback


def _is_local(host: str) -> bool:
    """Whether a Host header names an address, or localhost: names that no page can have."""
    name = _PORT.sub("", host).lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def routes(service: Service) -> list[web.RouteDef]:
    """The routes of this surface."""
    return [*_pages(service), *_orders(service), *debug.routes(service)]


def _pages(service: Service) -> list[web.RouteDef]:
    async def metrics(request: web.Request) -> web.Response:
        render, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(render, service.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        if service.draining:
            return web.Response(text="draining\n", status=503)
        if unready := service.registry.unready:
            text = f"no endpoint is known to be up: {', '.join(unready)}\n"
            return web.Response(text=text, status=503)
        return web.Response(text="ok\n")

    async def status(_: web.Request) -> web.Response:
        return json_answer(described(service))

    async def events(request: web.Request) -> web.StreamResponse:
        async with sse_response(request, sep="\n") as feed:
            seen = service.reloader.status
            while True:
                await feed.send(msgspec.json.encode(described(service)).decode(), event="status")
                seen = await _news(service, seen)

    return [
        web.get("/metrics", metrics),
        web.get("/livez", alive),
        web.get("/readyz", ready),
        web.get("/startupz", alive),  # the listener opens when the configuration is loaded
        web.get("/status", status),
        web.get("/events", events),
    ]


async def _news(service: Service, seen: ReloadStatus) -> ReloadStatus:
    """The status of the configuration, once that is new or a drain has begun."""
    if service.draining:
        return await service.reloader.changed(seen)
    async with asyncio.TaskGroup() as group:
        tasks = (
            group.create_task(service.reloader.changed(seen)),
            group.create_task(service.drain_begun.wait()),
        )
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return service.reloader.status


def _orders(service: Service) -> list[web.RouteDef]:
    async def reload(_: web.Request) -> web.Response:
        result = await service.reloader.reload("POST /reload")
        return json_answer(described(service), 200 if result.ok else 422)

    async def drain(_: web.Request) -> web.Response:
        service.begin_drain("POST /drain")
        return json_answer(described(service), 202)

    # There is no way back from a drain but a restart.
    return [web.post("/reload", reload), web.post("/drain", drain)]


def described(service: Service) -> dict[str, object]:
    """What serves, and how the last attempt to replace it went; no secrets, no addresses' keys."""
    registry, now = service.registry, monotonic()
    return {
        "config": service.reloader.status,
        "draining": service.draining,
        "drain": None if service.leaving is None else _told(service.leaving, now),
        "in_flight": service.in_flight,
        "warnings": registry.warnings,
        "models": [
            {
                "ref": model.label,
                "provider": model.provider.id,
                "endpoints": [member.endpoint.name for member in model.pool.members],
            }
            for model in registry.models.values()
        ],
        "endpoints": [
            {
                "provider": state.provider,
                "name": state.endpoint_name,
                "in_flight": state.inflight,
                "waiting": len(state.line),
                "limit": state.told_limit,
                "health": state.health,
                "circuit": state.breaker.circuit(now),
            }
            for state in service.live.states()
        ],
    }


def _told(drain: Drain, now: float) -> dict[str, object]:
    """A drain as it stands: `refusing` new requests or not yet, and the time it has left."""
    return {
        "since": drain.since,
        "reason": drain.reason,
        "refusing": drain.refuses(now),
        "seconds_left": round(drain.seconds_left(now), 3),
    }
