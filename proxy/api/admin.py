"""The second listener: metrics, probes, status, reload. It has no keys: keep it to yourself."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web
from aiohttp_sse import sse_response
from prometheus_client.exposition import choose_encoder

from proxy.api.surface import json_answer
from proxy.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """The routes of this surface."""

    async def metrics(request: web.Request) -> web.Response:
        render, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(render, service.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        if service.draining:
            return web.Response(text="draining\n", status=503)
        return web.Response(text="ok\n")

    async def status(_: web.Request) -> web.Response:
        return json_answer(described(service))

    async def events(request: web.Request) -> web.StreamResponse:
        async with sse_response(request, sep="\n") as feed:
            seen = service.reloader.status
            while True:
                await feed.send(msgspec.json.encode(described(service)).decode(), event="status")
                seen = await service.reloader.changed(seen)

    async def reload(_: web.Request) -> web.Response:
        result = await service.reloader.reload("POST /reload")
        return json_answer(described(service), 200 if result.ok else 422)

    return [
        web.get("/metrics", metrics),
        web.get("/livez", alive),
        web.get("/readyz", ready),
        web.get("/startupz", alive),  # the listener opens when the configuration is loaded
        web.get("/status", status),
        web.get("/events", events),
        web.post("/reload", reload),
    ]


def described(service: Service) -> dict[str, object]:
    """What serves, and how the last attempt to replace it went; no secrets, no addresses' keys."""
    registry = service.registry
    return {
        "config": service.reloader.status,
        "draining": service.draining,
        "warnings": registry.warnings,
        "models": [
            {
                "ref": model.label,
                "provider": model.provider.id,
                "endpoints": [state.endpoint_name for _, state in model.pool.members],
            }
            for model in registry.models.values()
        ],
        "endpoints": [
            {
                "provider": state.provider,
                "name": state.endpoint_name,
                "in_flight": state.inflight,
            }
            for state in service.live.states()
        ],
    }
