"""Sourcegraph's API as Cody clients use it: completions, the list of models, feature switches."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import hdrs, web

from parsers.chat import ChatRequest, Operation, Reasoning, Request
from parsers.dialects.base import RequestHead
from parsers.dialects.sourcegraph import (
    SourcegraphDialect,
    dialect_for,
    instructed,
    rewritten,
    without_open_turn,
)
from parsers.events import Fault, FaultKind
from proxy.api.door import Handler, Route
from proxy.api.knobs import with_knobs
from proxy.api.sourcegraph_head import head_of
from proxy.api.sourcegraph_models import client_config, supported_models
from proxy.api.surface import client_of
from proxy.config.modelref import UnknownModel, choose
from proxy.errors import RequestFailed, client_fault
from proxy.exchange import Exchange
from proxy.planning import Ask
from proxy.registry import Model, Registry
from proxy.service import Service

# Whose models refuse the conversations of old clients (sourcegraph.md 3.4).
_ANTHROPIC_KINDS = frozenset({"anthropic", "awsBedrock"})

# Edits come by the chat route.
_CAPABILITIES = {
    Operation.CHAT: frozenset({"chat", "edit"}),
    Operation.COMPLETION: frozenset({"autocomplete"}),
}


def routes(service: Service) -> list[Route]:
    """The routes of this surface."""

    async def models(request: web.BaseRequest, _: str) -> web.Response:
        client = client_of(service, request)
        return pretty(supported_models(service.registry, client))

    async def features(request: web.BaseRequest, _: str) -> web.Response:
        client_of(service, request)
        return pretty(client_config(service.registry))

    return [
        Route("POST", "/.api/completions/stream", completions(service, Operation.CHAT)),
        Route("*", "/.api/completions/stream", not_allowed),
        Route("POST", "/.api/completions/code", completions(service, Operation.COMPLETION)),
        Route("*", "/.api/completions/code", not_allowed),
        Route("GET", "/.api/modelconfig/supported-models.json", models),
        Route("GET", "/.api/llm/supported-models.json", models),
        Route("GET", "/.api/client-config", features),
    ]


async def not_allowed(_: web.BaseRequest, __: str) -> web.Response:
    """The answer to any other method."""
    return web.Response(
        text="Method Not Allowed\n", status=405, headers={hdrs.ALLOW: hdrs.METH_POST}
    )


def pretty(value: object) -> web.Response:
    """A value as the JSON that people read in a browser: indented by four, with a line end."""
    body = msgspec.json.format(msgspec.json.encode(value), indent=4) + b"\n"
    return web.Response(body=body, content_type="application/json")


def completions(service: Service, operation: Operation) -> Handler:
    """A handler for one of the two completion routes."""

    async def handler(request: web.BaseRequest, _: str) -> web.StreamResponse:
        head = head_of(request, service.registry.config)
        dialect = dialect_for(operation, head.version)
        ask = Ask(
            dialect,
            refusal=head.refusal,
            total_seconds=head.total_seconds,
            resolve=partial(resolve, operation=operation),
            complete=partial(complete, rewrites=head.version is None),
            answers_in=partial(naming, dialect),
        )
        return await Exchange(service, request, ask).run()

    return handler


def resolve(registry: Registry, head: RequestHead, *, operation: Operation) -> Model:
    """The model that a Cody request means (spec 2.3). Raises RequestFailed, with status 400."""
    names, defaults = registry.config.names, registry.config.defaults
    try:
        ref = choose(names, defaults, head.model, operation, fast=head.fast)
    except UnknownModel as error:
        raise RequestFailed(_unsupported(str(error))) from None
    model = registry.models[str(ref)]
    # Who made a model the default has said that it can do the work (B-20).
    fast = defaults.fast_chat if operation is Operation.CHAT else None
    if ref not in (defaults.of(operation), fast):
        check_capability(model, operation)
    return model


def naming(dialect: SourcegraphDialect, model: Model) -> SourcegraphDialect:
    """The dialect with what an answer may call the model besides its reference."""
    name = None if model.hides_name else model.upstream_name
    return msgspec.structs.replace(dialect, upstream_name=name)


def check_capability(model: Model, operation: Operation) -> None:
    """Raise RequestFailed for a model of which the file says that it does other work."""
    if model.capabilities and _CAPABILITIES[operation].isdisjoint(model.capabilities):
        can = ", ".join(model.capabilities)
        text = f'the model "{model.label}" cannot do this: its capabilities are {can}'
        raise RequestFailed(client_fault(FaultKind.INVALID_REQUEST, text))


def _unsupported(text: str) -> Fault:
    return client_fault(FaultKind.UNKNOWN_MODEL, text, status=400)


def complete(registry: Registry, request: Request, model: Model, *, rewrites: bool) -> Request:
    """The request with what the configuration says and the client did not.

    `rewrites` is for clients without an api-version, whose conversations some models refuse.
    """
    if isinstance(request, ChatRequest):
        if rewrites and model.provider.kind in _ANTHROPIC_KINDS:
            messages = rewritten(request.messages)
        else:
            messages = without_open_turn(request.messages)
        messages = instructed(messages, registry.config.system_pre_instruction)
        request = with_effort(msgspec.structs.replace(request, messages=messages), model)
    if model.provider.kind != "fireworks":  # all others never heard of them (3.3)
        sampling = msgspec.structs.replace(request.sampling, logprobs=None)
        request = msgspec.structs.replace(request, sampling=sampling)
    return with_knobs(request, model)


def with_effort(request: ChatRequest, model: Model) -> ChatRequest:
    """The request, thinking as long as the file says of its model where it says nothing itself."""
    effort = model.config.settings.reasoning_effort
    if not effort or request.reasoning is not None:
        return request
    return msgspec.structs.replace(request, reasoning=Reasoning(effort=effort))
