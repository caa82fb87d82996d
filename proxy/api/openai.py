"""OpenAI's API: chat and text completions, responses, embeddings, reranking, the list of models."""

from __future__ import annotations

from aiohttp import web

from parsers.chat import Operation
from parsers.dialects.base import RequestHead
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.passthrough import EMBEDDINGS, RERANK, Passthrough
from parsers.dialects.responses import ResponsesExchange
from parsers.events import FaultKind
from proxy.api import anthropic
from proxy.api.door import Handler, Route, speaks_anthropic
from proxy.api.surface import client_of, exchange, json_answer, visible_models
from proxy.errors import RequestFailed, client_fault
from proxy.exchange import Exchange
from proxy.planning import Ask
from proxy.registry import Model, Registry
from proxy.service import Service


def routes(service: Service) -> list[Route]:
    """The routes of this surface."""

    async def models(request: web.BaseRequest, _: str) -> web.Response:
        client = client_of(service, request)
        visible = visible_models(service.registry, client)
        if speaks_anthropic(request):
            return json_answer(anthropic.listed(visible))
        return json_answer({"object": "list", "data": [entry(model) for model in visible]})

    async def model(request: web.BaseRequest, ref: str) -> web.Response:
        client = client_of(service, request)
        found = service.registry.names.get(ref)
        if found is None or (client is not None and not client.may_use(found)):
            message = "the model does not exist"
            raise RequestFailed(client_fault(FaultKind.UNKNOWN_MODEL, message))
        return json_answer(anthropic.entry(found) if speaks_anthropic(request) else entry(found))

    def named(dialect: Passthrough) -> Handler:
        async def handler(request: web.BaseRequest, _: str) -> web.StreamResponse:
            ask = Ask(dialect, resolve=resolve_named, exact=dialect)
            return await Exchange(service, request, ask).run()

        return handler

    async def response(request: web.BaseRequest, ref: str) -> web.StreamResponse:
        dialect = ResponsesExchange()  # it knows how far this one answer has come
        return await Exchange(service, request, Ask(dialect, ref, exact=dialect)).run()

    async def stored_response(request: web.BaseRequest, _: str) -> web.Response:
        client_of(service, request)
        text = "responses are not stored here: there is none to be read or deleted"
        raise RequestFailed(client_fault(FaultKind.INVALID_REQUEST, text, status=404))

    return [
        Route("POST", "/v1/chat/completions", exchange(service, OPENAI_CHAT)),
        Route("POST", "/v1/completions", exchange(service, OPENAI_COMPLETIONS)),
        Route("POST", "/v1/responses", response),
        Route("GET", "/v1/responses/{ref}", stored_response),
        Route("DELETE", "/v1/responses/{ref}", stored_response),
        Route("POST", "/v1/embeddings", named(EMBEDDINGS)),
        Route("POST", "/v1/rerank", named(RERANK)),
        Route("POST", "/rerank", named(RERANK)),  # where text-embeddings-inference has it
        Route("GET", "/v1/models", models),
        Route("GET", "/v1/models/{ref}", model),
    ]


def resolve_named(registry: Registry, head: RequestHead) -> Model:
    """The model that a request names. Raises RequestFailed: default models do other work."""
    if not head.model:
        raise RequestFailed(client_fault(FaultKind.INVALID_REQUEST, "model: missing"))
    return registry.resolve(head.model, Operation.EMBEDDING)


def entry(model: Model) -> dict[str, object]:
    """A model as OpenAI lists it."""
    return {
        "id": model.label,
        "object": "model",
        "created": 0,  # nobody knows; TGI says the same
        "owned_by": model.provider.id,
    }
