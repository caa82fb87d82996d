"""Sourcegraph's OpenAI-style API: `/.api/llm`, in OpenAI's dialect with full model references."""

from __future__ import annotations

import msgspec
from aiohttp import web

from parsers.chat import ChatRequest, Operation, Request
from parsers.dialects.base import RequestHead
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.sourcegraph import instructed
from parsers.events import FaultKind
from proxy.api.door import Handler, Route
from proxy.api.knobs import with_knobs
from proxy.api.openai import entry
from proxy.api.sourcegraph import resolve as resolve_name
from proxy.api.sourcegraph import with_effort
from proxy.api.sourcegraph_head import check_enabled
from proxy.api.surface import client_of, json_answer, visible_models
from proxy.config.modelref import BadModelRef, ModelRef
from proxy.errors import RequestFailed, client_fault
from proxy.exchange import Exchange
from proxy.planning import Ask
from proxy.registry import Model, Registry
from proxy.service import Service

_EXPECTED = (
    "Expected format '${ProviderID}::${APIVersionID}::${ModelID}'. To fix this problem, send a"
    " request to `GET /.api/llm/models` to see the list of supported models."
)
_MAX_SHOWN = 200  # characters of a client's text that are said back


def routes(service: Service) -> list[Route]:
    """The routes of this surface."""

    async def models(request: web.BaseRequest, _: str) -> web.Response:
        client = client_of(service, request)
        listed = [entry(model) for model in visible_models(service.registry, client)]
        return json_answer({"object": "list", "data": listed})

    async def model(request: web.BaseRequest, ref: str) -> web.Response:
        client = client_of(service, request)
        found = service.registry.models.get(ref)
        if found is None or (client is not None and not client.may_use(found)):
            raise RequestFailed(client_fault(FaultKind.UNKNOWN_MODEL, "Model not found"))
        return json_answer(entry(found))

    return [
        Route("GET", "/.api/llm/models", models),
        Route("GET", "/.api/llm/models/{ref}", model),
        Route("POST", "/.api/llm/chat/completions", chat(service)),
    ]


def chat(service: Service) -> Handler:
    """A handler for chat completions.

    Never the exact path: answers name the model as it was asked for (3.10), which may be all that
    a client is to know of it.
    """

    async def handler(request: web.BaseRequest, _: str) -> web.StreamResponse:
        refusal = check_enabled(service.registry.config)
        ask = Ask(OPENAI_CHAT, refusal=refusal, resolve=resolve, complete=complete)
        return await Exchange(service, request, ask).run()

    return handler


def complete(registry: Registry, request: Request, model: Model) -> Request:
    """The request with what the configuration says and the client did not."""
    if isinstance(request, ChatRequest):
        messages = instructed(request.messages, registry.config.system_pre_instruction)
        request = with_effort(msgspec.structs.replace(request, messages=messages), model)
    return with_knobs(request, model)


def resolve(registry: Registry, head: RequestHead) -> Model:
    """The model of a full reference. Raises RequestFailed, with status 400."""
    try:
        ModelRef.parse(head.model)
    except BadModelRef as error:
        asked = head.model[:_MAX_SHOWN]
        message = f"requested model '{asked}' failed validation: {error}. {_EXPECTED}"
        fault = client_fault(FaultKind.UNKNOWN_MODEL, message, status=400)
        raise RequestFailed(fault) from None
    return resolve_name(registry, head, operation=Operation.CHAT)
