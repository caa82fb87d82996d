"""What the surfaces share: how a route becomes an exchange, and how a plain answer is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from aiohttp import hdrs, web

from parsers.dialects.base import ClientDialect
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.tgi import TGI
from parsers.events import Fault, FaultKind
from proxy.admission import authenticate, malformed
from proxy.errors import RequestFailed, client_fault, status_of
from proxy.exchange import Ask, Exchange
from proxy.registry import Client, Model, Registry
from proxy.service import Service

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def exchange(service: Service, dialect: ClientDialect, *, stream: bool | None = None) -> Handler:
    """A handler that asks a model.

    `ref` in the path names the model; `stream` None leaves it to the body.
    """

    async def handler(request: web.Request) -> web.StreamResponse:
        ask = Ask(dialect, request.match_info.get("ref", ""), stream)
        return await Exchange(service, request, ask).run()

    return handler


def visible_models(registry: Registry, client: Client | None) -> list[Model]:
    """The models a client may use, in the order of the file."""
    models = registry.models.values()
    return [model for model in models if client is None or client.may_use(model)]


def client_of(service: Service, request: web.Request) -> Client | None:
    """The client that asks. Raises RequestFailed for a bad key."""
    return authenticate(request.headers, service.registry.clients)


def json_answer(value: object, status: int = 200) -> web.Response:
    """A value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


@web.middleware
async def front_door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse malformed heads; tell every refusal outside an exchange in the path's dialect."""
    fault = malformed(request)
    if fault is not None:
        return _refusal(request, fault, close=True)
    try:
        return await handler(request)
    except RequestFailed as failure:
        return _refusal(request, failure.fault)
    except web.HTTPNotFound:
        missing = client_fault(FaultKind.INVALID_REQUEST, "there is no such route", status=404)
        return _refusal(request, missing)
    except web.HTTPMethodNotAllowed as error:
        wrong = client_fault(FaultKind.INVALID_REQUEST, "the method is not allowed", status=405)
        answer = _refusal(request, wrong)
        answer.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        return answer


def _refusal(request: web.Request, fault: Fault, *, close: bool = False) -> web.Response:
    dialect = OPENAI_CHAT if request.path.startswith("/v1") else TGI
    status = status_of(fault)
    answer = web.Response(
        body=dialect.encode_error(fault, status), status=status, content_type="application/json"
    )
    if close:
        answer.force_close()
    return answer
