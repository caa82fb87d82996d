"""Anthropic's API: messages, the count of their tokens, and its form of the list of models."""

from __future__ import annotations

from aiohttp import web

from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_TOKEN_COUNT, AnthropicMessages
from proxy.api.door import Handler, Route
from proxy.exchange import Exchange
from proxy.planning import Ask
from proxy.registry import Model
from proxy.service import Service

_ID_HEADER = b"request-id"
_UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # what Anthropic itself says of one


def routes(service: Service) -> list[Route]:
    """The routes of this surface; the models are listed where OpenAI's are."""
    return [
        Route("POST", "/v1/messages", _exchange(service, ANTHROPIC)),
        Route("POST", "/v1/messages/count_tokens", _exchange(service, ANTHROPIC_TOKEN_COUNT)),
    ]


def _exchange(service: Service, dialect: AnthropicMessages) -> Handler:
    async def handler(request: web.BaseRequest, _: str) -> web.StreamResponse:
        ask = Ask(dialect, exact=dialect, id_header=_ID_HEADER)
        return await Exchange(service, request, ask).run()

    return handler


def listed(models: list[Model]) -> dict[str, object]:
    """The models as Anthropic lists them, all on one page."""
    return {
        "data": [entry(model) for model in models],
        "has_more": False,
        "first_id": models[0].label if models else None,
        "last_id": models[-1].label if models else None,
    }


def entry(model: Model) -> dict[str, object]:
    """A model as Anthropic describes it."""
    return {
        "type": "model",
        "id": model.label,
        "display_name": model.display_name,
        "created_at": _UNKNOWN_DATE,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_output_tokens,
    }
