"""OpenAI's API: chat and text completions, and the list of models."""

from __future__ import annotations

from aiohttp import web

from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import FaultKind
from proxy.api.door import Route
from proxy.api.surface import client_of, exchange, json_answer, visible_models
from proxy.errors import RequestFailed, client_fault
from proxy.registry import Model
from proxy.service import Service


def routes(service: Service) -> list[Route]:
    """The routes of this surface."""

    async def models(request: web.BaseRequest, _: str) -> web.Response:
        client = client_of(service, request)
        listed = [entry(model) for model in visible_models(service.registry, client)]
        return json_answer({"object": "list", "data": listed})

    async def model(request: web.BaseRequest, ref: str) -> web.Response:
        client = client_of(service, request)
        found = service.registry.names.get(ref)
        if found is None or (client is not None and not client.may_use(found)):
            message = "the model does not exist"
            raise RequestFailed(client_fault(FaultKind.UNKNOWN_MODEL, message))
        return json_answer(entry(found))

    return [
        Route("POST", "/v1/chat/completions", exchange(service, OPENAI_CHAT)),
        Route("POST", "/v1/completions", exchange(service, OPENAI_COMPLETIONS)),
        Route("GET", "/v1/models", models),
        Route("GET", "/v1/models/{ref}", model),
    ]


def entry(model: Model) -> dict[str, object]:
    """A model as OpenAI lists it."""
    return {
        "id": model.label,
        "object": "model",
        "created": 0,  # nobody knows; TGI says the same
        "owned_by": model.provider.id,
    }
