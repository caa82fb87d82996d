"""POST, GET and DELETE /debug: whose requests are captured for a while, without a reload."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from proxy.api.surface import json_answer
from proxy.capture import Debugged
from proxy.registry import Registry
from proxy.service import Service

MAX_SECONDS = 86_400.0  # whoever wants it for longer says so in the configuration
_ANONYMOUS = "anonymous"  # what accounts call a client without a key, or with a wrong one


class _Whose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str | None = None
    client: str | None = None


class _Order(_Whose, frozen=True):
    seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] = 600.0


class _Refused(Exception):
    """Nothing is debugged by such an order; the text says why."""


def routes(service: Service) -> list[web.RouteDef]:
    """The routes of this surface."""
    captures = service.captures

    async def show(_: web.Request) -> web.Response:
        return json_answer(described(service))

    async def begin(request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=_Order)
            captures.debug(_debugged(order, service.registry), order.seconds)
        except (msgspec.DecodeError, UnicodeDecodeError, _Refused) as error:
            return json_answer({"error": str(error)}, 400)
        return json_answer(described(service))

    async def end(request: web.Request) -> web.Response:
        body = await request.read()
        try:
            whose = msgspec.json.decode(body, type=_Whose) if body else None
            captures.stop(None if whose is None else _named(whose, service.registry))
        except (msgspec.DecodeError, UnicodeDecodeError, _Refused) as error:
            return json_answer({"error": str(error)}, 400)
        return json_answer(described(service))

    return [web.get("/debug", show), web.post("/debug", begin), web.delete("/debug", end)]


def described(service: Service) -> dict[str, object]:
    """What is captured, where to, and what became of it."""
    captures = service.captures
    return {
        "on": [
            {each.by: each.name, "seconds_left": round(seconds, 3)}
            for each, seconds in captures.debugged.items()
        ],
        "providers": captures.verbose,
        "directory": captures.directory,
        "captures": captures.counts,
        "held_bytes": captures.held_bytes,
    }


def _named(whose: _Whose, registry: Registry) -> Debugged:
    """Whose requests are meant. Raises _Refused unless just one of the two is named."""
    if (whose.model is None) == (whose.client is None):
        raise _Refused('name either a "model" or a "client"')
    if whose.client is not None:
        return Debugged("client", whose.client)
    model = registry.names.get(whose.model or "")
    return Debugged("model", whose.model or "" if model is None else model.label)


def _debugged(whose: _Whose, registry: Registry) -> Debugged:
    """The same, where there is such a model or client. Raises _Refused."""
    found = _named(whose, registry)
    clients = {_ANONYMOUS, *(client.name for client in registry.clients.values())}
    known = registry.models if found.by == "model" else clients
    if found.name not in known:
        raise _Refused(f"there is no such {found.by}")
    return found
