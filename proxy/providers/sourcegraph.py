"""Sourcegraph's own gateway: other services' dialects behind one address and one key.

Which of them is spoken depends on whose models they are (sourcegraph.md 4.8). In the original the
provider's id decides; here it does where nothing else is said (B-50).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, structs

from parsers.chat import GENERATION, Operation, Request
from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_PROMPT
from parsers.dialects.base import Members
from parsers.dialects.gemini.dialect import Gemini
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.prompt_chat import PROMPT_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.endpoints import Endpoint
from proxy.providers.base import (
    Finding,
    Provider,
    ProviderKind,
    Route,
    UpstreamCall,
    UpstreamRequest,
)
from proxy.providers.fireworks import FireworksChat, FireworksCompletions
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer

_PUBLIC = "https://cody-gateway.sourcegraph.com"
_BASE = "/v1/completions"

_Upstream: TypeAlias = Literal["anthropic", "openai", "fireworks", "google"]
_UPSTREAMS: tuple[_Upstream, ...] = get_args(_Upstream)
# Mistral's models are Fireworks' there.
_BY_ID: Mapping[str, _Upstream] = MappingProxyType(
    {name: name for name in _UPSTREAMS} | {"mistral": "fireworks"}
)
_FEATURES = {
    Operation.CHAT: b"x-sourcegraph-feature: chat_completions\r\n",
    Operation.COMPLETION: b"x-sourcegraph-feature: code_completions\r\n",
}
_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `sourcegraph`."""

    dialect: Annotated[
        Literal["auto", "anthropic", "openai", "fireworks", "google"],
        Meta(description='Whose models they are, and so the dialect; "auto": the provider\'s id.'),
    ] = "auto"


class _GatewayGemini(Gemini):
    """Gemini with all in the body: the gateway's path names neither model nor stream."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable."""
        members = _MEMBERS.decode(super().encode_request(request, model))
        members["model"] = msgspec.Raw(msgspec.json.encode(model))
        members["stream"] = msgspec.Raw(msgspec.json.encode(request.stream))
        return msgspec.json.encode(members)


def _anthropic() -> tuple[Route, ...]:
    path = f"{_BASE}/anthropic-messages"
    chat = Route(ANTHROPIC, path, path, Operation.CHAT, needs_limit=True)
    return chat, Route(ANTHROPIC_PROMPT, path, path, Operation.COMPLETION, needs_limit=True)


def _openai() -> tuple[Route, ...]:
    path = f"{_BASE}/openai"  # chat alone
    chat = Route(OPENAI_CHAT, path, path, Operation.CHAT)
    return chat, Route(PROMPT_CHAT, path, path, Operation.COMPLETION)


def _fireworks() -> tuple[Route, ...]:
    path = f"{_BASE}/fireworks"  # the feature says which of its routes is meant
    chat = Route(FireworksChat(), path, path, Operation.CHAT)
    return chat, Route(FireworksCompletions(), path, path, Operation.COMPLETION)


def _google() -> tuple[Route, ...]:
    path, dialect = f"{_BASE}/google", _GatewayGemini()
    return tuple(Route(dialect, path, path, operation) for operation in GENERATION)


_ROUTES: Mapping[_Upstream, Callable[[], tuple[Route, ...]]] = MappingProxyType(
    {"anthropic": _anthropic, "openai": _openai, "fireworks": _fireworks, "google": _google}
)


class Gateway(Provider):
    """Each call says whether it is chat or autocomplete: the gateway counts them apart."""

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes, with its feature."""
        headers = _FEATURES[call.route.operation] + call.headers
        return await super().prepare(structs.replace(call, headers=headers), endpoint)


def _upstream_of(config_id: str, settings: Settings) -> _Upstream | None:
    return _BY_ID.get(config_id) if settings.dialect == "auto" else settings.dialect


def check(settings: Settings) -> Iterator[Finding]:
    """A bad URL, a key that breaks a header, no key."""
    yield from service_problems(settings)
    if not settings.access_token:
        yield Finding((), "without an accessToken no key is sent", is_warning=True)


def check_id(settings: Settings, provider_id: str) -> Iterator[Finding]:
    """An id that says nothing, where it should say whose models they are."""
    if _upstream_of(provider_id, settings) is None:
        known = ", ".join(f'"{name}"' for name in _BY_ID)
        text = f'its models cannot be called: give it a "dialect", or one of these ids: {known}'
        yield Finding((), text, is_warning=True)


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider; without routes where nothing says whose models they are."""
    upstream = _upstream_of(config.id, settings)
    routes = () if upstream is None else _ROUTES[upstream]()
    target = target_at(settings.endpoint or _PUBLIC)
    return Gateway(
        config, (structs.replace(target, headers=bearer(settings.access_token)),), routes
    )


SOURCEGRAPH = ProviderKind(Settings, check, build, check_id)
