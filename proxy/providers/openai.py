"""OpenAI itself, or whoever stands at the configured address in its name."""

from __future__ import annotations

from msgspec import structs

from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind
from proxy.providers.openaicompatible import OPENAI_ROUTES
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://api.openai.com/v1"

# Sites name a route where they mean the base (spec 1.11, 4.2).
ROUTE_SUFFIXES = ("/chat/completions", "/completions")


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openai`; a URL without a path means /v1."""


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    target = target_at(settings.endpoint or _PUBLIC, "/v1", ROUTE_SUFFIXES)
    target = structs.replace(target, headers=bearer(settings.access_token))
    return Provider(config, (target,), OPENAI_ROUTES)


OPENAI = ProviderKind(Settings, service_problems, build)
