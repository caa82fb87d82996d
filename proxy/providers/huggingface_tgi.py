"""Hugging Face Text Generation Inference, on its OpenAI routes or on its native ones."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from parsers.chat import Operation
from parsers.dialects.completions import TGI_COMPLETIONS
from parsers.dialects.tgi import TGI, TGI_COMPAT
from parsers.dialects.tgi_chat import TGI_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.hosted import HostedSettings, endpoint_problems, endpoints_of

_OPENAI_ROUTES = (
    Route(TGI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(TGI_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION),
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
    endpoints = endpoints_of(settings.endpoints, "" if native else "/v1")
    if native:
        endpoints = tuple(
            structs.replace(each, base_path=each.base_path.removesuffix("/v1"))
            for each in endpoints
        )
    return Provider(
        config,
        endpoints,
        _NATIVE_ROUTES if native else _OPENAI_ROUTES,
        asks_usage=settings.usage == "on",
    )


HUGGINGFACE_TGI = ProviderKind(Settings, endpoint_problems, build)
