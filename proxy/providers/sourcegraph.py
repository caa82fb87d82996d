"""Sourcegraph's own gateway: its settings. There is no dialect for it yet."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Finding, Provider, ProviderKind
from proxy.providers.service import (
    NOT_CALLABLE,
    ServiceSettings,
    service_problems,
    without_routes,
)

_PUBLIC = "https://cody-gateway.sourcegraph.com"


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `sourcegraph`."""


def check(settings: Settings) -> Iterator[Finding]:
    """What is wrong, and that it cannot be called."""
    yield from service_problems(settings)
    yield NOT_CALLABLE


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider, without routes."""
    return without_routes(config, settings.endpoint or _PUBLIC)


SOURCEGRAPH = ProviderKind(Settings, check, build)
