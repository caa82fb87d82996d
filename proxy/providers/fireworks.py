"""Fireworks: OpenAI's dialect at another address (upstreams.md 10)."""

from __future__ import annotations

from msgspec import structs

from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind
from proxy.providers.openai import ROUTE_SUFFIXES
from proxy.providers.openaicompatible import SELF_HOSTED_ROUTES
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://api.fireworks.ai/inference/v1"


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `fireworks`; the URL may end in `/completions`."""


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    target = target_at(settings.endpoint or _PUBLIC, "/inference/v1", ROUTE_SUFFIXES)
    target = structs.replace(target, headers=bearer(settings.access_token))
    return Provider(config, (target,), SELF_HOSTED_ROUTES)


FIREWORKS = ProviderKind(Settings, service_problems, build)
