"""Hugging Face Text Generation Inference, on its OpenAI routes or on its native ones."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from parsers.chat import Operation
from parsers.dialects.completions import TGI_COMPLETIONS
from parsers.dialects.prompt_chat import TGI_PROMPT_CHAT
from parsers.dialects.tgi import TGI, TGI_COMPAT
from parsers.dialects.tgi_chat import TGI_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route, Target
from proxy.providers.hosted import HostedSettings, endpoint_problems, targets_of

_OPENAI_ROUTES = (
    Route(TGI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(TGI_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION),
)
_CHAT_ONLY = (
    Route(TGI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(TGI_PROMPT_CHAT, "/chat/completions", "/chat/completions", Operation.COMPLETION),
)
_NATIVE_ROUTES = (
    Route(TGI, "/generate", "/generate_stream", Operation.COMPLETION),
    Route(TGI, "/generate", "/generate_stream", Operation.CHAT),
    Route(TGI_COMPAT, "/", "/", Operation.COMPLETION),
)


class Settings(HostedSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `huggingface-tgi`."""

    dialect: Annotated[
        Literal["openai", "tgi"],
        Meta(description='"openai": call its /v1 routes; "tgi": call /generate.'),
    ] = "openai"


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider; the native routes stand beside `/v1`, whether or not the URL names it."""
    native = settings.dialect == "tgi"
    targets = targets_of(settings.endpoints, "" if native else "/v1")
    if native:
        targets = tuple(map(_beside_v1, targets))
    return Provider(
        config,
        targets,
        _routes(settings),
        asks_usage=settings.usage == "on",
        verbose=settings.is_verbose,
    )


def _routes(settings: Settings) -> tuple[Route, ...]:
    if settings.dialect == "tgi":
        return _NATIVE_ROUTES
    return _OPENAI_ROUTES if settings.use_legacy_completions else _CHAT_ONLY


def _beside_v1(target: Target) -> Target:
    endpoint = target.endpoint
    base_path = endpoint.base_path.removesuffix("/v1")
    return structs.replace(target, endpoint=structs.replace(endpoint, base_path=base_path))


HUGGINGFACE_TGI = ProviderKind(Settings, endpoint_problems, build)
