"""OpenAI itself, or whoever stands at the configured address in its name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, structs

from parsers.chat import Operation
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.passthrough import EMBEDDINGS
from parsers.dialects.responses import RESPONSES
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://api.openai.com/v1"

_ROUTES = (
    Route(OPENAI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(OPENAI_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION),
    Route(EMBEDDINGS, "/embeddings", "/embeddings", Operation.EMBEDDING),
)
# Asked for by clients of the same dialect only: all others are served by chat.
_RESPONSES = Route(RESPONSES, "/responses", "/responses", Operation.CHAT)

# Sites name a route where they mean the base (spec 1.11, 4.2).
ROUTE_SUFFIXES = ("/chat/completions", "/completions", "/responses")


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openai`; a URL without a path means /v1."""

    responses: Annotated[
        bool,
        Meta(description="false: the server has no /responses; its clients are translated."),
    ] = True


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    target = target_at(settings.endpoint or _PUBLIC, "/v1", ROUTE_SUFFIXES)
    target = structs.replace(target, headers=bearer(settings.access_token))
    return Provider(config, (target,), (*_ROUTES, _RESPONSES) if settings.responses else _ROUTES)


OPENAI = ProviderKind(Settings, service_problems, build)
