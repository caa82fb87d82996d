"""OpenAI's API: chat and text completions, and the list of models."""

from __future__ import annotations

from aiohttp import web

from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import FaultKind
from proxy.api.surface import client_of, exchange, json_answer, visible_models
from proxy.errors import RequestFailed, client_fault
from proxy.registry import Model
from proxy.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """The routes of this surface."""

    async def models(request: web.Request) -> web.Response:
        client = client_of(service, request)
        listed = [entry(model) for model in visible_models(service.registry, client)]
        return json_answer({"object": "list", "data": listed})

    async def model(request: web.Request) -> web.Response:
        client = client_of(service, request)
        name = request.match_info["ref"]
        found = service.registry.names.get(name)
        if found is None or (client is not None and not client.may_use(found)):
            message = "the model does not exist"
            raise RequestFailed(client_fault(FaultKind.UNKNOWN_MODEL, message))
        return json_answer(entry(found))

    return [
        web.post("/v1/chat/completions", exchange(service, OPENAI_CHAT)),
        web.post("/v1/completions", exchange(service, OPENAI_COMPLETIONS)),
        web.get("/v1/models", models),
        web.get("/v1/models/{ref:.+}", model),
    ]


def entry(model: Model) -> dict[str, object]:
    """A model as OpenAI lists it."""
    return {
        "id": model.label,
        "object": "model",
        "created": 0,  # nobody knows; TGI says the same
        "owned_by": model.provider.id,
    }
