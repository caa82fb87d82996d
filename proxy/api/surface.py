"""What the surfaces share: how a route becomes an exchange, and how a plain answer is written."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec
from aiohttp import web

from parsers.dialects.base import ExactDialect
from proxy.admission import authenticate
from proxy.api.door import Handler
from proxy.exchange import Exchange
from proxy.planning import Ask
from proxy.registry import Client, Model, Registry
from proxy.service import Service


def exchange(service: Service, dialect: ExactDialect, *, stream: bool | None = None) -> Handler:
    """A handler that asks a model; `stream` None leaves it to the body."""

    usual = Ask(dialect, "", stream, exact=dialect)

    def handler(request: web.BaseRequest, ref: str) -> Awaitable[web.StreamResponse]:
        ask = Ask(dialect, ref, stream, exact=dialect) if ref else usual
        return Exchange(service, request, ask).run()

    return handler


def visible_models(registry: Registry, client: Client | None) -> list[Model]:
    """The models a client may use, in the order of the file."""
    models = registry.models.values()
    return [model for model in models if client is None or client.may_use(model)]


def client_of(service: Service, request: web.BaseRequest) -> Client | None:
    """The client that asks. Raises RequestFailed for a bad key."""
    return authenticate(request.headers, service.registry.clients)


def json_answer(value: object, status: int = 200) -> web.Response:
    """A value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )
