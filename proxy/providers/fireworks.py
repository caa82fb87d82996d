"""Fireworks: OpenAI's dialect at another address (upstreams.md 10)."""

from __future__ import annotations

from msgspec import structs

from parsers.chat import Operation
from parsers.dialects.completions.dialect import SelfHostedCompletions
from parsers.dialects.openai import SelfHostedChat
from parsers.dialects.openai.request_writer import HOSTED
from parsers.dialects.passthrough import EMBEDDINGS, RERANK
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.openai import ROUTE_SUFFIXES
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://api.fireworks.ai/inference/v1"


class FireworksChat(SelfHostedChat):
    """Chat as Fireworks understands it: no seed, and a member that it does not know is a 400."""

    spoken = SelfHostedChat.spoken - {"seed", "thinking"}
    habits = HOSTED


class FireworksCompletions(SelfHostedCompletions):
    """Text completions as Fireworks understands them."""

    spoken = SelfHostedCompletions.spoken - {"seed"}


_ROUTES = (
    Route(FireworksChat(), "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(FireworksCompletions(), "/completions", "/completions", Operation.COMPLETION),
    Route(EMBEDDINGS, "/embeddings", "/embeddings", Operation.EMBEDDING),
    Route(RERANK, "/rerank", "/rerank", Operation.RERANK),
)


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `fireworks`; the URL may end in `/completions`."""


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    target = target_at(settings.endpoint or _PUBLIC, "/inference/v1", ROUTE_SUFFIXES)
    target = structs.replace(target, headers=bearer(settings.access_token))
    return Provider(config, (target,), _ROUTES)


FIREWORKS = ProviderKind(Settings, service_problems, build)
