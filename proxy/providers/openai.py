"""OpenAI itself, or whoever stands at the configured address in its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Block, Secret
from proxy.providers.base import Provider, ProviderKind, SettingsProblem
from proxy.providers.hosted import EndpointSettings, endpoints_of, is_header_text, url_problem
from proxy.providers.openaicompatible import OPENAI_ROUTES

_PUBLIC = "https://api.openai.com/v1"


class Settings(Block, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openai`."""

    access_token: Annotated[Secret, Meta(description="The API key.")]
    endpoint: Annotated[str, Meta(description="Base URL; without a path it means /v1.")] = _PUBLIC


def check(settings: Settings) -> Iterator[SettingsProblem]:
    """A bad URL, a token that breaks a header."""
    if (problem := url_problem(settings.endpoint)) is not None:
        yield ("endpoint",), problem
    if not is_header_text(settings.access_token):
        yield ("accessToken",), "the token cannot stand in a header"


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    endpoint = EndpointSettings(url=settings.endpoint, access_token=settings.access_token)
    return Provider(config, endpoints_of((endpoint,), "/v1"), OPENAI_ROUTES)


OPENAI = ProviderKind(Settings, check, build)
