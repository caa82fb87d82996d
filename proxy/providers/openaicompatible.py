"""Any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, Transformers."""

from __future__ import annotations

from parsers.chat import Operation
from parsers.dialects.completions import SELF_HOSTED_COMPLETIONS
from parsers.dialects.openai import SELF_HOSTED_CHAT
from parsers.dialects.prompt_chat import SELF_HOSTED_PROMPT_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.hosted import HostedSettings, endpoint_problems, targets_of

SELF_HOSTED_ROUTES = (
    Route(SELF_HOSTED_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(SELF_HOSTED_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION),
)
_CHAT_ONLY = (
    Route(SELF_HOSTED_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(SELF_HOSTED_PROMPT_CHAT, "/chat/completions", "/chat/completions", Operation.COMPLETION),
)


class Settings(HostedSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openaicompatible`."""


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    return Provider(
        config,
        targets_of(settings.endpoints, "/v1"),
        SELF_HOSTED_ROUTES if settings.use_legacy_completions else _CHAT_ONLY,
        asks_usage=settings.usage == "on",
        verbose=settings.is_verbose,
    )


OPENAI_COMPATIBLE = ProviderKind(Settings, endpoint_problems, build)
