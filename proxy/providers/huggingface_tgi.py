"""Hugging Face Text Generation Inference, on its OpenAI routes or on its native ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from parsers.chat import Operation
from parsers.dialects.completions import TGI_COMPLETIONS
from parsers.dialects.passthrough import TOKENIZE
from parsers.dialects.prompt_chat import TGI_PROMPT_CHAT
from parsers.dialects.tgi import TGI, TGI_COMPAT
from parsers.dialects.tgi_chat import TGI_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Checks, Provider, ProviderKind, Route
from proxy.providers.hosted import Hosted, HostedSettings, endpoint_problems, targets_of

_CHAT = Route(TGI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT)
_COMPLETIONS = Route(TGI_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION)
_PROMPT_CHAT = Route(
    TGI_PROMPT_CHAT, "/chat/completions", "/chat/completions", Operation.COMPLETION
)
_NATIVE_ROUTES = (
    Route(TGI, "/generate", "/generate_stream", Operation.COMPLETION),
    Route(TGI, "/generate", "/generate_stream", Operation.CHAT),
    Route(TGI_COMPAT, "/", "/", Operation.COMPLETION),
)
_BESIDE_V1 = (Route(TOKENIZE, "/tokenize", "/tokenize", Operation.TOKENIZE),)


class Settings(HostedSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `huggingface-tgi`."""

    checks: ClassVar[Checks] = Checks("/health", "/info", "max_concurrent_requests")

    dialect: Annotated[
        Literal["openai", "tgi"],
        Meta(description='"openai": call its /v1 routes; "tgi": call /generate.'),
    ] = "openai"


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider; the native routes stand beside `/v1`, whether or not the URL names it."""
    if settings.dialect == "tgi":
        targets, routes, beside = targets_of(settings.endpoints, ""), (), _NATIVE_ROUTES
        return Hosted(config, targets, routes, beside + _BESIDE_V1, settings)
    completions = _COMPLETIONS if settings.use_legacy_completions else _PROMPT_CHAT
    targets = targets_of(settings.endpoints, "/v1")
    return Hosted(config, targets, (_CHAT, completions), _BESIDE_V1, settings)


HUGGINGFACE_TGI = ProviderKind(Settings, endpoint_problems, build)
