"""Anthropic itself, or whoever stands at the configured address in its name."""

from __future__ import annotations

from msgspec import structs

from parsers.chat import Operation
from parsers.dialects.anthropic import ANTHROPIC as MESSAGES
from parsers.dialects.anthropic import ANTHROPIC_PROMPT, ANTHROPIC_TOKEN_COUNT
from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Secret
from proxy.endpoints import Endpoint
from proxy.providers.base import Provider, ProviderKind, Route, UpstreamCall, UpstreamRequest
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://api.anthropic.com/v1/messages"

_VERSION = b"anthropic-version"
_DEFAULT_VERSION = b"anthropic-version: 2023-06-01\r\n"
_CLIENT_HEADERS = ("anthropic-version", "anthropic-beta")

# Keys of accounts, not of the API: Anthropic takes them as bearer tokens only.
_OAUTH_TOKEN = "sk-ant-oat"  # noqa: S105 - how one begins

_ROUTES = (
    Route(
        MESSAGES,
        "/messages",
        "/messages",
        Operation.CHAT,
        needs_limit=True,
        client_headers=_CLIENT_HEADERS,
    ),
    Route(
        ANTHROPIC_PROMPT,
        "/messages",
        "/messages",
        Operation.COMPLETION,
        needs_limit=True,
    ),
    Route(
        ANTHROPIC_TOKEN_COUNT,
        "/messages/count_tokens",
        "/messages/count_tokens",
        Operation.CHAT,
        client_headers=_CLIENT_HEADERS,
    ),
)


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `anthropic`; the URL is that of the messages route."""


class Anthropic(Provider):
    """Calls name the version of the API: the client's own on the exact path, else the one here."""

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes, with a version."""
        if _VERSION not in call.headers:
            call = structs.replace(call, headers=_DEFAULT_VERSION + call.headers)
        return await super().prepare(call, endpoint)


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    target = target_at(settings.endpoint or _PUBLIC, "/v1", ("/messages",))
    target = structs.replace(target, headers=_key(settings.access_token))
    return Anthropic(config, (target,), _ROUTES)


def _key(token: Secret | None) -> tuple[tuple[str, Secret], ...]:
    """The header that carries the key; none for an empty one, which says that there is none."""
    if not token:
        return ()
    return bearer(token) if token.reveal().startswith(_OAUTH_TOKEN) else (("x-api-key", token),)


ANTHROPIC = ProviderKind(Settings, service_problems, build)
