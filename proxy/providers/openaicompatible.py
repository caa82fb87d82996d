"""Any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, Transformers."""

from __future__ import annotations

from parsers.chat import Operation
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.prompt_chat import PROMPT_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.hosted import HostedSettings, endpoint_problems, targets_of

OPENAI_ROUTES = (
    Route(OPENAI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(OPENAI_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION),
)
_CHAT_ONLY = (
    Route(OPENAI_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT),
    Route(PROMPT_CHAT, "/chat/completions", "/chat/completions", Operation.COMPLETION),
)


class Settings(HostedSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openaicompatible`."""


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    return Provider(
        config,
        targets_of(settings.endpoints, "/v1"),
        OPENAI_ROUTES if settings.use_legacy_completions else _CHAT_ONLY,
        asks_usage=settings.usage == "on",
        verbose=settings.is_verbose,
    )


OPENAI_COMPATIBLE = ProviderKind(Settings, endpoint_problems, build)
